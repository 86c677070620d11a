// What the next agent has to know of a session.
#ifndef OAKUM_AGENT_KEPT_KEPT_STATE_H_
#define OAKUM_AGENT_KEPT_KEPT_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/caller/container_view.h"
#include "base/error.h"
#include "oci/container_state.h"

namespace oakum::agent {

struct KeptState {
  oci::ContainerProcessState container;  // as the runtime sent it, without its descriptors
  std::string policy;                    // that was chosen for it, by name
  int64_t attached_ns = 0;               // CLOCK_REALTIME
  // What it began with; the root's descriptor is kept beside this.
  std::string root_path;
  std::optional<MountNamespace> mounts;
  // /etc/resolv.conf of the container before its program ran, where it was read: a program may have
  // written another one since.
  std::optional<std::string> resolv_conf;
};

// JSON. Keys may be added without another kJournalVersion as long as their absence means what it
// meant before.
[[nodiscard]] std::string EncodeKeptState(const KeptState& state);
// Unknown keys are ignored. Errors: EINVAL.
[[nodiscard]] Expected<KeptState> DecodeKeptState(std::string_view text);

// The files that a view remembers, as JSON. Errors: EINVAL.
[[nodiscard]] std::string EncodeRemembered(const std::vector<RememberedFile>& files);
[[nodiscard]] Expected<std::vector<RememberedFile>> DecodeRemembered(std::string_view text);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEPT_STATE_H_
