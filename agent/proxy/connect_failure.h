// Has a connection attempt fail that nobody waits for in a call of its own.
#ifndef OAKUM_AGENT_PROXY_CONNECT_FAILURE_H_
#define OAKUM_AGENT_PROXY_CONNECT_FAILURE_H_

#include <cstdint>

#include "agent/proxy/held_connection.h"
#include "agent/proxy/held_socket.h"

namespace oakum::agent {

// The container's socket `client`, in SYN_SENT towards `held`, fails with `error` (SO_ERROR,
// EPOLLERR), as far as the agent's privileges reach:
// - With CAP_NET_ADMIN and CAP_NET_RAW the peer says so: by RST (ECONNREFUSED), or by an ICMP or
//   ICMPv6 message for what these can say (RFC 1122 section 4.2.3.9; icmp_err_convert[],
//   net/ipv4/icmp.c: ENETUNREACH, EHOSTUNREACH, EPROTO, over IPv6 EACCES), EHOSTUNREACH for all
//   others.
// - For ECONNRESET and without these, the attempt is ended by connect(2) with AF_UNSPEC:
// ECONNRESET.
// - A socket that is not found again under the number that it had is left to the peer that is no
//   more: ECONNREFUSED with the next SYN, at most as long from now as the attempt has taken (RFC
//   6298 section 5.5).
void FailConnect(const HeldClient& client, const HeldSocket& held, int error, uint64_t own_netns);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CONNECT_FAILURE_H_
