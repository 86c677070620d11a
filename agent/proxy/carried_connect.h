// connect(2) to a destination that is reached by way of a proxy or of the agent.
#ifndef OAKUM_AGENT_PROXY_CARRIED_CONNECT_H_
#define OAKUM_AGENT_PROXY_CARRIED_CONNECT_H_

#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"
#include "agent/proxy/held_socket.h"
#include "agent/proxy/kept_names.h"

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

// Goes on with a connection that an agent before this one held for a socket in non-blocking mode,
// which waits for it in SYN_SENT: decides it anew, and asks the proxy. The socket is found by its
// owner's number for it, and known by its cookie. False when it is not there any more, or the
// policy does not carry it now: then it fails as `held` goes. What is done to the container's
// socket may have to wait for the container. `name`: that by which it is kept.
[[nodiscard]] bool GoOnHolding(SessionCore& core, const HeldIdentity& identity,
                               const std::string& name, HeldSocket held);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CARRIED_CONNECT_H_
