// Connections that an agent has kept twice in the moment in which it ended.
#ifndef OAKUM_AGENT_SESSION_RELAY_DOUBLES_H_
#define OAKUM_AGENT_SESSION_RELAY_DOUBLES_H_

#include <vector>

#include "agent/kept/fd_store.h"
#include "agent/proxy/kept_relays.h"

namespace oakum::agent {

// A connection that waits for its proxy is kept, and from before its socket is connected the relay
// in its place: for a moment both are. Takes the one that does not count out of `items` and of the
// store: the relay, unless the container's end of it is or was connected.
void DropDoubles(std::vector<KeptItem>& items, KeptRelays& kept);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_RELAY_DOUBLES_H_
