// A container's config.json: what is known from it, and the edit that guards the container.
#ifndef OAKUM_OCI_CONFIG_H_
#define OAKUM_OCI_CONFIG_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/seccomp_merge.h"
#include "oci/seccomp_plan.h"

namespace oakum::oci {

// One entry of `mounts`; empty where the key is absent.
struct ConfigMount {
  std::string destination;
  std::string type;
  std::string source;

  bool operator==(const ConfigMount&) const = default;
};

// Plain values of a config.json (runtime-spec config.md and config-linux.md); empty where a key is
// absent.
struct ConfigFacts {
  std::string oci_version;
  std::string hostname;
  std::string root_path;              // root.path, relative to the bundle unless absolute
  std::vector<std::string> args;      // process.args
  std::vector<std::string> env;       // process.env, "NAME=value"
  std::string cgroups_path;           // linux.cgroupsPath
  std::string seccomp_listener_path;  // linux.seccomp.listenerPath
  std::vector<ConfigMount> mounts;
  std::map<std::string, std::string> annotations;
};

// Errors: EINVAL, "config.json:LINE:COLUMN: ..." or "config.json: KEY must be ...".
[[nodiscard]] Expected<ConfigFacts> ReadConfigFacts(std::string_view config_json);

// Returns the text with `linux.seccomp` replaced by its merge with `plan` (MergeSeccomp), or with
// that section inserted where there was none. Every byte outside of it stays as it was. Errors:
// EINVAL when the text is not a JSON object, describes a container of another platform, or has a
// key that runc would take for `linux` or `linux.seccomp` though it is written differently; and
// those of MergeSeccomp.
[[nodiscard]] Expected<std::string> EditConfig(std::string_view config_json,
                                               const SeccompPlan& plan,
                                               const ListenerConfig& listener);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_CONFIG_H_
