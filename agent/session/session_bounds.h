// How many sessions there may be, and how much of what runtimes say of them is kept.
#ifndef OAKUM_AGENT_SESSION_SESSION_BOUNDS_H_
#define OAKUM_AGENT_SESSION_SESSION_BOUNDS_H_

#include <cstddef>
#include <map>
#include <string>

#include "base/error.h"
#include "oci/container_state.h"

namespace oakum::agent {

// Each session is a few descriptors, and a thread while it is called.
inline constexpr size_t kMaxSessions = 8192;
// Of one container id: each exec that runs is one.
inline constexpr size_t kMaxSessionsOfContainer = 2048;
// Bytes of states, as StateBytes has them; of one state kMaxStateBytes.
inline constexpr size_t kMaxStateBytesOfContainer = size_t{16} << 20;
inline constexpr size_t kMaxStateBytesInAll = size_t{256} << 20;

// What a session keeps of its state.
[[nodiscard]] size_t StateBytes(const oci::ContainerProcessState& state);

// Not thread-safe.
class SessionBounds {
 public:
  // Counts one more session. Errors: EAGAIN where it would be too many or too much.
  [[nodiscard]] Expected<void> Admit(const std::string& container_id, size_t state_bytes);
  // It has ended.
  void Release(const std::string& container_id, size_t state_bytes);
  [[nodiscard]] size_t sessions() const { return all_.sessions; }
  [[nodiscard]] size_t state_bytes() const { return all_.bytes; }
  [[nodiscard]] size_t containers() const { return containers_.size(); }

 private:
  struct Use {
    size_t sessions = 0;
    size_t bytes = 0;
  };
  Use all_;
  std::map<std::string, Use> containers_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_SESSION_BOUNDS_H_
