// Held sockets that are made before they are needed.
#ifndef OAKUM_AGENT_PROXY_HELD_SPARE_H_
#define OAKUM_AGENT_PROXY_HELD_SPARE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "agent/proxy/held_socket.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Of one session's thread. A container that has connected by way of a held socket mostly does so
// again: the next ones are made while the program goes on, after the answer to the one before,
// which takes half of the work out of the call. The more it connects, the more are made at once, on
// one port (HeldSocket::CreateSome). Not thread-safe.
class HeldSpare {
 public:
  // Such a socket, if there is one of this kind: of the network namespace with that cookie and of
  // `domain`. After the last of them Refill() makes others like it.
  [[nodiscard]] std::optional<HeldSocket> Take(uint64_t netns, int domain, int net_fd);
  [[nodiscard]] bool wanted() const { return wanted_; }
  // After an answer; does nothing unless some are wanted. A failure means there is none. `ports`
  // outlives this object.
  void Refill(OwnPorts& ports);

 private:
  uint64_t netns_ = 0;
  int domain_ = 0;
  UniqueFd net_;  // invalid: the agent's own
  bool wanted_ = false;
  size_t at_once_ = 1;  // how many are made the next time
  std::vector<HeldSocket> spare_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HELD_SPARE_H_
