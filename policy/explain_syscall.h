// What a policy makes of a system call, and why.
#ifndef OAKUM_POLICY_EXPLAIN_SYSCALL_H_
#define OAKUM_POLICY_EXPLAIN_SYSCALL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy/policy.h"

namespace oakum::policy {

struct SyscallExplanation {
  enum class Answer : uint8_t { kAllowed, kByArguments, kGuarded, kRefused };
  Answer answer = Answer::kRefused;
  std::string errno_name;  // of kRefused: "EPERM", or the number where it has no name
  std::string rule;        // "syscalls.deny ptrace", "syscalls.base strict"
  std::vector<std::string> notes;
};

// Errors: ENOENT when neither the list nor libseccomp knows the call, with a suggestion.
[[nodiscard]] Expected<SyscallExplanation> ExplainSyscall(const Policy& policy,
                                                          std::string_view call);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_EXPLAIN_SYSCALL_H_
