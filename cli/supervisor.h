// Waits for a guarded program and all that it leaves behind.
#ifndef OAKUM_CLI_SUPERVISOR_H_
#define OAKUM_CLI_SUPERVISOR_H_

#include <sys/types.h>

#include <functional>
#include <set>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::cli {

// Made before the program is started: from then on processes that lose their parent become this
// process's children (PR_SET_CHILD_SUBREAPER, prctl(2)), so that they stay its descendants, which
// Yama (ptrace_scope 1) demands of whom the agent looks into, and so that they can be reached.
class Supervisor {
 public:
  // Errors: those of prctl(2) and eventfd(2).
  [[nodiscard]] static Expected<Supervisor> Create();

  // Blocks the signals that are passed on. To be called after fork(2), which hands the mask down,
  // and before any thread starts. Errors: those of signalfd(2).
  [[nodiscard]] Expected<void> TakeSignals();

  // Returns the wait status (waitpid(2)) of `program` once the filter behind `listener_fd` has no
  // task any more. Until then INT, TERM, HUP, QUIT, WINCH, USR1 and USR2 from other processes are
  // passed on to the program or, when it has ended, to what it left behind; those from the terminal
  // reach its whole foreground process group without help. `on_wait` is called once when the
  // program has ended and others go on for a second.
  [[nodiscard]] int Wait(pid_t program, int listener_fd, const std::function<void()>& on_wait);

  // Has Wait end all guarded processes with SIGKILL. From any thread.
  void KillAll() const;

 private:
  Supervisor(UniqueFd kill_event, std::set<pid_t> others)
      : kill_event_(std::move(kill_event)), others_(std::move(others)) {}

  void HandleSignals();
  void Reap();
  void SignalAll(int signal) const;

  UniqueFd kill_event_;
  std::set<pid_t> others_;  // children that were there before
  UniqueFd signals_;
  pid_t program_ = -1;
  bool ended_ = false;
  int status_ = 0;
};

}  // namespace oakum::cli

#endif  // OAKUM_CLI_SUPERVISOR_H_
