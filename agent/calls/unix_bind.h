// bind(2) to a unix path in the place of the caller.
#ifndef OAKUM_AGENT_CALLS_UNIX_BIND_H_
#define OAKUM_AGENT_CALLS_UNIX_BIND_H_

#include <sys/types.h>

#include "agent/caller/sockaddr.h"
#include "agent/caller/task.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Where and as whom a thread of the container creates files.
struct Caller {
  TaskStatus status;
  bool same_user_namespace = false;  // as the agent
  bool same_root = false;            // as the agent, in the same mount namespace
  UniqueFd root;
  UniqueFd cwd;
};

// Errors: those of open(2) on /proc/TID. The caller must see afterwards that the notification is
// still valid.
[[nodiscard]] Expected<Caller> LookAtCaller(pid_t tid);

// Binds to the path of `address` below the caller's root and working directory, with its ids, its
// umask and those of its capabilities that pass permission checks of files. The socket gets the
// name that was given, not another path to the same place: getsockname(2) shows it.
//
// A process of its own does it, which has neither the agent's root nor its descriptors: in a
// container that shares the host's pid namespace /proc/self in a path means whoever resolves it,
// and the links below it (root, cwd, fd) lead there.
//
// 0 or an errno value.
[[nodiscard]] int BindUnixPath(const Caller& caller, int socket_fd, const SockaddrCopy& address);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_UNIX_BIND_H_
