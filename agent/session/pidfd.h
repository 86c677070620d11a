// Descriptors of processes (pidfd_open(2)).
#ifndef OAKUM_AGENT_SESSION_PIDFD_H_
#define OAKUM_AGENT_SESSION_PIDFD_H_

#include <sys/types.h>

#include "base/unique_fd.h"

namespace oakum::agent {

// The process that a pidfd means, as this namespace numbers it; 0 when it has ended, or, after a
// while, when there is no room to look (proc_pid_fdinfo(5)).
[[nodiscard]] pid_t PidOf(int pidfd);
// One more for the same process, as a file of its own: what keeps may keep a file once, for one
// session (systemd does). Where that cannot be had, a copy (dup(2)); invalid when there is no room.
[[nodiscard]] UniqueFd AnotherPidfd(int pidfd);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_PIDFD_H_
