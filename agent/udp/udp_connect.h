// Datagrams that are carried, where the calls meet their gates: connect(2), and what sends with an
// address.
#ifndef OAKUM_AGENT_UDP_UDP_CONNECT_H_
#define OAKUM_AGENT_UDP_UDP_CONNECT_H_

#include "agent/proxy/carried_connect.h"

namespace oakum::agent {

class Gates;

// Those of a session's container, made when there are none; null when there cannot be any.
[[nodiscard]] std::shared_ptr<Gates> GatesOf(SessionCore& session);

// Connects it to a gate: connect.judged.decision.carry is kResolver or kProxy. Nothing is sent by
// it, so it works whether the proxy carries datagrams or not.
[[nodiscard]] Outcome ConnectDatagrams(const CallContext& context, const GuardedCall& call,
                                       CarriedConnect connect);

// Makes `address` that of the gate where a message to `destination` has to be sent. 0, or the errno
// value that the call ends with: EACCES, with an event, when the proxy carries no datagrams.
[[nodiscard]] int LeadMessage(const CallContext& context, const GuardedCall& call,
                              const PinnedSocket& socket, const policy::Endpoint& destination,
                              const Judged& judged, SockaddrCopy& address);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_UDP_CONNECT_H_
