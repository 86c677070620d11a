// What a thread that waits for an answer is doing, as /proc tells.
#ifndef OAKUM_AGENT_CALLER_CALLER_STATE_H_
#define OAKUM_AGENT_CALLER_CALLER_STATE_H_

#include <sys/types.h>

#include "base/unique_fd.h"

namespace oakum::agent {

// Tells whether the caller is up: a signal has woken it, and it has not told the kernel yet that it
// leaves its call, or has only just gone to sleep in it. Some 4 microseconds the first time,
// then 1.
class CallerWatch {
 public:
  // `tid`: in the agent's pid namespace.
  explicit CallerWatch(pid_t tid);

  // False also where nothing is to be seen (no ptrace access, proc_pid_syscall(5)).
  [[nodiscard]] bool IsUp() const;

 private:
  UniqueFd file_;
};

// Whether thread `tid` is in a sleep that only a signal that kills it ends ("D", proc_pid_stat(5)).
// A caller under a filter with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV goes to sleep so that a
// signal wakes it, and only when something has (whatever sets TIF_SIGPENDING: a signal, a stop, a
// debugger, the cgroup freezer) once more, then in this way (seccomp_do_user_notification()). It
// keeps that mark until it returns from its call.
[[nodiscard]] bool SleepsThroughSignals(pid_t tid);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_CALLER_STATE_H_
