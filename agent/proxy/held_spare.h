// A held socket that is made before it is needed.
#ifndef OAKUM_AGENT_PROXY_HELD_SPARE_H_
#define OAKUM_AGENT_PROXY_HELD_SPARE_H_

#include <cstdint>
#include <optional>

#include "agent/proxy/held_socket.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Of one session's thread. A container that has connected by way of a held socket mostly does so
// again: the next one is made while the program goes on, after the answer to the one before, which
// takes half of the work out of the call. Not thread-safe.
class HeldSpare {
 public:
  // That socket, if there is one of this kind: of the network namespace with that cookie and of
  // `domain`. Either way Refill() makes another one like it.
  [[nodiscard]] std::optional<HeldSocket> Take(uint64_t netns, int domain, int net_fd);
  [[nodiscard]] bool wanted() const { return wanted_; }
  // After an answer; does nothing unless one is wanted. A failure means there is none. `ports`
  // outlives this object.
  void Refill(OwnPorts& ports);

 private:
  uint64_t netns_ = 0;
  int domain_ = 0;
  UniqueFd net_;  // invalid: the agent's own
  bool wanted_ = false;
  std::optional<HeldSocket> spare_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HELD_SPARE_H_
