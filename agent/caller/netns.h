// Sockets in the network namespace of a container's socket.
#ifndef OAKUM_AGENT_CALLER_NETNS_H_
#define OAKUM_AGENT_CALLER_NETNS_H_

#include <cstdint>
#include <functional>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// SO_NETNS_COOKIE (Linux 5.14): which network namespace a socket belongs to, as long as the machine
// runs; 0 where it cannot be told.
[[nodiscard]] uint64_t NetworkCookie(int socket_fd);
// That of the sockets that this thread makes.
[[nodiscard]] uint64_t OwnNetworkCookie();

// The network namespace of a socket, wherever its owner has gone since: SIOCGSKNS, which wants
// CAP_NET_ADMIN over it; an invalid descriptor where it is the agent's own (`own_netns` is its
// cookie), which needs nothing. Errors: EPERM and those of ioctl(2).
[[nodiscard]] Expected<UniqueFd> NetworkOf(int socket_fd, uint64_t own_netns);

// Runs `body` in that network namespace and with the capabilities that the calling
// thread has otherwise (kPerformerCapabilities); at once where `net_fd` is -1. Where the calling
// thread could not come back (an agent in rootless podman's user namespace), another one goes for
// it and ends there: `body` says by its own variables what became of it, not by errno. Errors:
// those of setns(2), EPERM without CAP_SYS_ADMIN; `body` has not run then.
[[nodiscard]] Expected<void> WithNetwork(int net_fd, const std::function<void()>& body);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_NETNS_H_
