// The allow-list of "base": "strict": every system call that has been looked at, in groups.
#ifndef OAKUM_POLICY_SYSCALL_LIST_H_
#define OAKUM_POLICY_SYSCALL_LIST_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace oakum::policy {

enum class Listing : uint8_t {
  kAllowed,      // as far as the engine's profile and the guard let it
  kByArguments,  // some of its arguments are refused: see plan_syscalls.cc
  kRefused,      // with the errno of the policy
  kAbsent,       // with ENOSYS, so that libraries take the older call
};

struct SyscallGroup {
  std::string_view name;
  Listing listing;
  std::string_view why;    // it is listed so
  std::string_view calls;  // names as libseccomp has them, a space between two
};

// All groups; a call is in one at most. One that is in none is newer than the list: refused with
// ENOSYS, as by a kernel that does not have it.
[[nodiscard]] std::span<const SyscallGroup> SyscallList();

// Takes the first name off `calls`, which must not be empty.
[[nodiscard]] std::string_view NextCall(std::string_view& calls);

// The group of the call, or nullptr.
[[nodiscard]] const SyscallGroup* FindSyscallGroup(std::string_view call);

// Whether the libseccomp of this machine has a number for the name, on whatever architecture.
[[nodiscard]] bool IsKnownToLibseccomp(std::string_view call);

// What is wrong with the name when neither the list nor libseccomp knows it, with a suggestion;
// empty otherwise.
[[nodiscard]] std::string UnknownSyscall(std::string_view call);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_SYSCALL_LIST_H_
