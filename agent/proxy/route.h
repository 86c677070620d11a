// Whether a network namespace has a way to an address.
#ifndef OAKUM_AGENT_PROXY_ROUTE_H_
#define OAKUM_AGENT_PROXY_ROUTE_H_

#include <cstdint>

#include "policy/address.h"

namespace oakum::agent {

enum class Route : uint8_t {
  kThere,
  kNone,
  kUnknown,  // no room to look (IsShortage()), or no memory
};

// Looks from the namespace of `net_fd`, -1 for the agent's own; sends nothing (udp(7)).
[[nodiscard]] Route RouteTo(const policy::Endpoint& endpoint, int net_fd);
// The same; waits for room for a bounded time, on a thread that may (ShortageWait).
[[nodiscard]] Route RouteOnceThereIsRoom(const policy::Endpoint& endpoint, int net_fd);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_ROUTE_H_
