// connect(2) to a destination that is reached by way of a proxy or of the agent.
#ifndef OAKUM_AGENT_PROXY_CARRIED_CONNECT_H_
#define OAKUM_AGENT_PROXY_CARRIED_CONNECT_H_

#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"

namespace oakum::agent {

struct CarriedConnect {
  PinnedSocket socket;
  int number = -1;          // the caller's descriptor
  SockaddrCopy address;     // as the program wrote it
  Destination destination;  // what it means
  Judged judged;            // verdict kRedirect or kAllow, and how it is carried
};

[[nodiscard]] Outcome ConnectCarried(const CallContext& context, const GuardedCall& call,
                                     CarriedConnect connect);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CARRIED_CONNECT_H_
