#include "agent/session/session_bounds.h"

#include <fmt/format.h>

#include <cerrno>

namespace oakum::agent {

size_t StateBytes(const oci::ContainerProcessState& state) {
  size_t bytes =
      state.id.size() + state.status.size() + state.bundle.size() + state.metadata.size();
  for (const auto& [key, value] : state.annotations) {
    bytes += key.size() + value.size();
  }
  return bytes;
}

Expected<void> SessionBounds::Admit(const std::string& container_id, size_t state_bytes) {
  if (all_.sessions >= kMaxSessions) {
    return MakeError(EAGAIN, fmt::format("there are {} sessions already", kMaxSessions));
  }
  if (all_.bytes + state_bytes > kMaxStateBytesInAll) {
    return MakeError(EAGAIN,
                     fmt::format("the states of all containers would have more than {} bytes",
                                 kMaxStateBytesInAll));
  }
  const auto found = containers_.find(container_id);
  const Use old = found != containers_.end() ? found->second : Use();
  if (old.sessions >= kMaxSessionsOfContainer) {
    return MakeError(EAGAIN, fmt::format("there are {} sessions of this container already",
                                         kMaxSessionsOfContainer));
  }
  if (old.bytes + state_bytes > kMaxStateBytesOfContainer) {
    return MakeError(EAGAIN,
                     fmt::format("the states of this container would have more than {} bytes",
                                 kMaxStateBytesOfContainer));
  }
  containers_[container_id] = {old.sessions + 1, old.bytes + state_bytes};
  all_ = {all_.sessions + 1, all_.bytes + state_bytes};
  return {};
}

void SessionBounds::Release(const std::string& container_id, size_t state_bytes) {
  const auto found = containers_.find(container_id);
  if (found == containers_.end()) {
    return;
  }
  --all_.sessions;
  all_.bytes -= state_bytes;
  found->second.bytes -= state_bytes;
  if (--found->second.sessions == 0) {
    containers_.erase(found);
  }
}

}  // namespace oakum::agent
