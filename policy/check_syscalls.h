// The check of "syscalls". Private to policy/.
#ifndef OAKUM_POLICY_CHECK_SYSCALLS_H_
#define OAKUM_POLICY_CHECK_SYSCALLS_H_

#include <array>
#include <optional>
#include <string_view>

#include "policy/check_context.h"
#include "policy/checked.h"
#include "policy/syntax.h"

namespace oakum::policy {

inline constexpr std::array<std::string_view, 2> kSyscallBases = {"keep", "strict"};

// Without a section: keep, with nothing allowed or denied.
[[nodiscard]] SyscallRules CheckSyscalls(const std::optional<syntax::Syscalls>& syscalls,
                                         CheckContext& context);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECK_SYSCALLS_H_
