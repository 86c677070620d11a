// Connections that an agent before this one held for sockets that wait for their proxies.
#ifndef OAKUM_AGENT_PROXY_RESUMED_CONNECT_H_
#define OAKUM_AGENT_PROXY_RESUMED_CONNECT_H_

#include <string>

#include "agent/proxy/held_socket.h"
#include "agent/proxy/kept_names.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

// Goes on with a connection that an agent before this one held for a socket in non-blocking mode,
// which waits for it in SYN_SENT: decides it anew, and asks the proxy. The socket is found by its
// owner's number for it, and known by its cookie. False when it is not
// there any more, or the policy does not carry it now: then it fails as `held` goes. What is done
// to the container's socket may have to wait for the container. `name`: that by which it is kept.
[[nodiscard]] bool GoOnHolding(SessionCore& core, const HeldIdentity& identity,
                               const std::string& name, HeldSocket held);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_RESUMED_CONNECT_H_
