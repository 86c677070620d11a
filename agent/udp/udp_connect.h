// connect(2) of a datagram socket whose datagrams are carried.
#ifndef OAKUM_AGENT_UDP_UDP_CONNECT_H_
#define OAKUM_AGENT_UDP_UDP_CONNECT_H_

#include "agent/proxy/carried_connect.h"

namespace oakum::agent {

// Connects it to a gate: connect.judged.decision.carry is kResolver or kProxy.
[[nodiscard]] Outcome ConnectDatagrams(const CallContext& context, const GuardedCall& call,
                                       CarriedConnect connect);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_UDP_CONNECT_H_
