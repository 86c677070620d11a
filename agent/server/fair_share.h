// Whose connection has to go when there is no room for another one.
#ifndef OAKUM_AGENT_SERVER_FAIR_SHARE_H_
#define OAKUM_AGENT_SERVER_FAIR_SHARE_H_

#include <chrono>
#include <optional>
#include <span>

#include "agent/server/unix_socket.h"

namespace oakum::agent {

struct Place {
  int fd = -1;
  Peer peer;
  std::chrono::steady_clock::time_point progress;  // when it last sent or read something
};

// The place that `newcomer` gets: of the user who has most places, if that is more than the
// newcomer's user has; else of the process that has most of the newcomer's user, if that would
// still be no less than the newcomer's process then has. Of these, the one that was silent longest.
// Nothing when the newcomer has its share: then it has to go itself.
[[nodiscard]] std::optional<int> PlaceFor(const Peer& newcomer, std::span<const Place> taken);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_FAIR_SHARE_H_
