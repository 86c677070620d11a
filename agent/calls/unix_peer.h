// Unix sockets of a container, reached on its behalf: unix(7).
#ifndef OAKUM_AGENT_CALLS_UNIX_PEER_H_
#define OAKUM_AGENT_CALLS_UNIX_PEER_H_

#include <string>

#include "agent/caller/container_view.h"
#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"

namespace oakum::agent {

// The socket file that a path leads to, pinned.
struct UnixPeer {
  UniqueFd inode;        // O_PATH; invalid for an abstract name
  SocketNames names;     // "@name" if abstract
  SockaddrCopy address;  // reaches exactly that inode, or is the abstract address itself
};

// Finds the peer as thread `tid` would, with its root, working directory and permissions. Returns 0
// or the errno value that the kernel gives (ENOENT, EACCES, ELOOP...). What is decided on `names`
// is decided on the inode that `address` reaches: nothing is looked up again.
[[nodiscard]] int FindUnixPeer(const CallContext& context, pid_t tid, const TaskStatus& status,
                               const Destination& destination, const SockaddrCopy& address,
                               UnixPeer& out);

// connect(2) to a unix address: the server sees the caller's user and group ids (SO_PEERCRED); its
// process id is the agent's, which the kernel takes from whoever connects.
[[nodiscard]] Outcome ConnectUnix(const CallContext& context, const GuardedCall& call,
                                  PinnedSocket socket, const Destination& destination,
                                  const SockaddrCopy& address);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_UNIX_PEER_H_
