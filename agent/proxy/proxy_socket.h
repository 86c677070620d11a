// Sockets towards proxies.
#ifndef OAKUM_AGENT_PROXY_PROXY_SOCKET_H_
#define OAKUM_AGENT_PROXY_PROXY_SOCKET_H_

#include <string>

#include "agent/caller/sockaddr.h"
#include "policy/address.h"

namespace oakum::agent {

// `as_v6`: an IPv4 address in its mapped form (RFC 4291), as an IPv6 socket takes it.
[[nodiscard]] SockaddrCopy InetSockaddr(const policy::Endpoint& endpoint, bool as_v6 = false);
// `path` has at most 107 bytes (unix(7)).
[[nodiscard]] SockaddrCopy UnixSockaddr(const std::string& path);

// What an end of a relay wants of a TCP socket: TCP_NODELAY, because handshakes are small messages
// that each wait for an answer; SO_KEEPALIVE with times of a minute or two, because who vanishes
// says nothing; SO_OOBINLINE, so that urgent data are read like others.
void PrepareRelayed(int socket_fd);

// What connect(2) on an internet socket could have said for `error`: EACCES for what is not
// permitted, ECONNREFUSED for what has no counterpart (a unix socket that is not there).
[[nodiscard]] int FittingErrno(int error);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PROXY_SOCKET_H_
