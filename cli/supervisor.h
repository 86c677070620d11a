// Waits for a guarded program and all that it leaves behind.
#ifndef OAKUM_CLI_SUPERVISOR_H_
#define OAKUM_CLI_SUPERVISOR_H_

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <set>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::cli {

// How a program has ended, in memory that processes forked later share.
struct ProgramEnd {
  std::atomic<bool> ended = false;
  std::atomic<int> status = 0;  // waitpid(2)
};

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

  // Of signals from other processes, only those that `keeper` passes on are heard as long as it is
  // this process's parent: it gets the same ones.
  void HearFrom(pid_t keeper) { keeper_ = keeper; }
  // `end` is written when the program has ended, and read when somebody else may have waited for it
  // before. It outlives the supervisor.
  void ShareEnd(ProgramEnd* end) { end_ = end; }

  // For a process whose child is a guard: from now on what the guards before have left are its own
  // children, `program` first; `others` are none of them.
  void TakeOver(pid_t program, const std::set<pid_t>& others);
  // A child that is not of the program's.
  void AddOther(pid_t child) { others_.insert(child); }
  // A child of this process has ended, and was waited for.
  void Ended(pid_t child, int status);
  // What a guard beside the program waits for on behalf of it (WaitBeside).
  [[nodiscard]] int kill_fd() const { return kill_event_.get(); }
  // The descriptors are those of the process that this one shares them with, and stay open.
  void LeaveToKeeper();
  // Passes on what has come, to the program or to what it has left behind.
  void PassSignalsOn();
  void SignalAll(int signal) const;

  // Passes on what has come to the process `to`. From the terminal, and from `program` (which means
  // its own group, and has reached it), nothing is. signals_fd() is readable when there is any;
  // SIGCHLD is among them.
  void PassSignalsOn(pid_t to, pid_t program);
  [[nodiscard]] int signals_fd() const { return signals_.get(); }

  // Returns the wait status (waitpid(2)) of `program` once the filter behind `listener_fd` has no
  // task any more. Until then INT, TERM, HUP, QUIT, WINCH, USR1 and USR2 from other processes are
  // passed on to the program or, when it has ended, to what it left behind; those from the terminal
  // reach its whole foreground process group without help. `on_wait` is called once when the
  // program has ended and others go on for a second.
  [[nodiscard]] int Wait(pid_t program, int listener_fd, const std::function<void()>& on_wait);

  // The same where `keeper`, the parent of this process, is the program's parent, too, and does all
  // that Wait does: in the copy of its supervisor that fork(2) has made.
  [[nodiscard]] int WaitBeside(pid_t keeper, int listener_fd, const std::function<void()>& on_wait);

  // Has Wait, or whoever watches kill_fd(), end all guarded processes with SIGKILL. From any
  // thread.
  void KillAll() const;

 private:
  Supervisor(UniqueFd kill_event, UniqueFd end_event, std::set<pid_t> others)
      : kill_event_(std::move(kill_event)),
        end_event_(std::move(end_event)),
        others_(std::move(others)) {}

  // Calls `pass_on` for each signal that is to be.
  void HandleSignals(pid_t program, const std::function<void(int signal)>& pass_on);
  void Reap();
  void SetEnd(int status);
  void LookForAnEarlierEnd();
  // A signal for the program, or for what it has left behind.
  void Signal(int signal) const;

  UniqueFd kill_event_;
  UniqueFd end_event_;      // readable once the program has ended
  std::set<pid_t> others_;  // children that were there before
  UniqueFd signals_;
  pid_t keeper_ = -1;
  ProgramEnd* end_ = nullptr;
  pid_t program_ = -1;
  bool ended_ = false;
  int status_ = 0;
};

}  // namespace oakum::cli

#endif  // OAKUM_CLI_SUPERVISOR_H_
