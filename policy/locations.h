// Where the configuration, the policies and the sockets are when nothing says so: those of the
// machine for root, those of an ordinary user for programs that rootless podman runs.
#ifndef OAKUM_POLICY_LOCATIONS_H_
#define OAKUM_POLICY_LOCATIONS_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace oakum::policy {

struct Locations {
  std::string config = "/etc/oakum/config.json";
  std::string socket = "/run/oakum/agent.sock";
  std::string policy = "/etc/oakum/policy.d";  // a file or a folder
};

// Who runs a program.
struct User {
  // The effective user id as it is outside rootless podman's user namespace: podman runs hooks and
  // runtimes there as its root. 0: root of the machine.
  uid_t uid = 0;
  std::string home;         // HOME, else passwd(5); empty: none
  std::string config_home;  // XDG_CONFIG_HOME; empty: unset
  std::string runtime_dir;  // XDG_RUNTIME_DIR; empty: unset, as for podman's hooks
};

// The user id outside a user namespace of `uid` in it, by the text of /proc/self/uid_map
// (user_namespaces(7)); nothing where it is not mapped.
[[nodiscard]] std::optional<uid_t> OutsideUid(std::string_view uid_map, uid_t uid);

// The machine's for root and for who has no home; else, by the XDG Base Directory Specification:
// config.json and policy.d in XDG_CONFIG_HOME/oakum (~/.config/oakum), the socket in
// XDG_RUNTIME_DIR/oakum (/run/user/UID/oakum). Where the user has no policy.d of their own
// (`exists`), the machine's policies hold. Variables that are not absolute paths are ignored, as
// the specification wants it.
[[nodiscard]] Locations LocationsOf(const User& user,
                                    const std::function<bool(const std::string&)>& exists);

// Who runs this process. An unmapped or unknown user (root of a container with a user namespace) is
// taken for root.
[[nodiscard]] User OwnUser();

// Those of this process. An unmapped or unknown user (root of a container with a user namespace)
// has the machine's.
[[nodiscard]] Locations OwnLocations();

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_LOCATIONS_H_
