// Profiles as engines ship them, turned into the seccomp section of one container.
#ifndef OAKUM_CLI_SECCOMP_PROFILE_H_
#define OAKUM_CLI_SECCOMP_PROFILE_H_

#include <span>
#include <string>

#include "base/error.h"
#include "oci/json.h"

namespace oakum::cli {

// What an engine's rules with "includes" and "excludes" are decided on.
struct ProfileTarget {
  std::string go_arch;    // "amd64"
  std::string scmp_arch;  // "SCMP_ARCH_X86_64"
  int kernel_major = 0;
  int kernel_minor = 0;
  std::span<const std::string> capabilities;  // "CAP_CHOWN", ...
};

// This machine, uname(2). Errors: ENOTSUP on an architecture that profiles have no name for here.
[[nodiscard]] Expected<ProfileTarget> NativeTarget(std::span<const std::string> capabilities);

// Takes a `linux.seccomp` section, a whole config.json (its section is taken; null when it has
// none) or a profile in the form of Docker and podman ("archMap"; rules with "includes" and
// "excludes"), and returns the section that the engine would make of it. Errors: EINVAL.
[[nodiscard]] Expected<oci::Json> ResolveProfile(const oci::Json& profile,
                                                 const ProfileTarget& target);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_SECCOMP_PROFILE_H_
