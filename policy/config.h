// config.json, in /etc/oakum or in a user's ~/.config/oakum: the one file that all programs read.
#ifndef OAKUM_POLICY_CONFIG_H_
#define OAKUM_POLICY_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "policy/locations.h"

namespace oakum::policy {

inline constexpr char kConfigVariable[] = "OAKUM_CONFIG";
inline constexpr size_t kMaxConfigSize = size_t{1} << 20;

// When a container's filter gets SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (oci/wait_killable.h).
enum class WaitKillable : uint8_t {
  kAuto,  // where the runtime is known to take it, and the kernel to keep it
  kOn,    // always: where it is refused, no container starts
  kOff,
};
// "auto", "on", "off"; nothing for another word.
[[nodiscard]] std::optional<WaitKillable> ParseWaitKillable(std::string_view word);

struct Config {
  // The real OCI runtime: a name that is looked for in PATH, or an absolute path. Empty: not said.
  std::string runtime;
  std::string socket = Locations().socket;  // where the agent listens for runtimes
  std::string policy = Locations().policy;  // file or directory
  std::string events;                       // event log: a path or "-"; empty: not said
  std::string metrics;                      // ADDRESS:PORT; empty: none
  std::string control;                      // control socket; empty: not said
  std::string control_group;                // who else may read there; empty: nobody
  WaitKillable wait_killable = WaitKillable::kAuto;
};

// Parses the text of a config file; `name` stands for it in messages. `locations` has what it does
// not say. JSON with // comments;
// unknown keys, and paths that are not absolute, are errors. Errors: EINVAL, "FILE:LINE:COLUMN:
// what".
[[nodiscard]] Expected<Config> ParseConfig(std::string_view text, std::string_view name,
                                           const Locations& locations = {});

// Reads `option` (--config) if there is one, else the file that OAKUM_CONFIG names (`variable`,
// null or empty when unset), else that of `locations`; only that last one may be missing.
// Errors: ParseConfig's, open(2)'s and read(2)'s; EPERM for one that everybody can change
// (CheckNotEverybodysToChange).
[[nodiscard]] Expected<Config> LoadConfig(const std::optional<std::string>& option,
                                          const char* variable,
                                          const Locations& locations = OwnLocations());

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CONFIG_H_
