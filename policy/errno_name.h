// Errnos by name.
#ifndef OAKUM_POLICY_ERRNO_NAME_H_
#define OAKUM_POLICY_ERRNO_NAME_H_

#include <optional>
#include <string_view>
#include <vector>

namespace oakum::policy {

inline constexpr int kMaxErrno = 4095;  // MAX_ERRNO of the kernel

// "EPERM" and all others that the C library knows (errno(3)).
[[nodiscard]] std::vector<std::string_view> ErrnoNames();
// The number of that name; EWOULDBLOCK and EDEADLOCK, EOPNOTSUPP and ENOTSUP are one each.
[[nodiscard]] std::optional<int> ErrnoOf(std::string_view name);
// The name, or an empty string for a number without one.
[[nodiscard]] std::string_view ErrnoName(int value);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_ERRNO_NAME_H_
