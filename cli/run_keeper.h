// The two processes of `oakum run`: a guard, and its parent, which keeps what the guard has and
// starts another one when it dies.
#ifndef OAKUM_CLI_RUN_KEEPER_H_
#define OAKUM_CLI_RUN_KEEPER_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "agent/kept/fd_store.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "cli/run_store.h"
#include "cli/supervisor.h"

namespace oakum::cli {

// A program is looked into by an ancestor only where Yama says so (ptrace_scope 1, ptrace(2)), so
// the first guard is its parent, and the keeper is the guard's: what the guard leaves behind
// becomes the keeper's (PR_SET_CHILD_SUBREAPER). The guards after it are the keeper's children
// beside the program, or, where Yama or a lack of processes leaves none, the keeper itself.

// A guard that has died.
struct DeadGuard {
  std::vector<agent::KeptItem> items;
  pid_t program = -1;
  UniqueFd listener;
  int status = 0;  // waitpid(2)
};
// This process is a guard: the keeper is its parent.
struct GuardRole {
  std::unique_ptr<RunStore> store;
  pid_t keeper = -1;
  std::optional<DeadGuard> before;  // nothing: it is the first
};
// This process was the keeper, and the guard has ended in good order or before its program began.
struct EndedRole {
  int status = 0;  // waitpid(2)
};
// This process was the keeper of a guard that has died, and is the guard from now on. Nobody keeps
// for it.
struct SuccessorRole {
  DeadGuard before;
};
using RunRole = std::variant<GuardRole, EndedRole, SuccessorRole>;

// Forks, as long as there is one thread. Returns in each guard at once, in the first with the
// signals as they were, and in the keeper once a guard has ended in good order. The keeper passes
// signals on, and is beyond the reach of who has its user (PR_SET_DUMPABLE). In a guard the
// descriptors of `supervisor` are the keeper's (Supervisor::LeaveToKeeper). Errors: those of the
// calls.
[[nodiscard]] Expected<RunRole> SplitRun(Supervisor& supervisor);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_RUN_KEEPER_H_
