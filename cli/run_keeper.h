// The two processes of `oakum run`: a guard, and its parent, which takes its place when it dies.
#ifndef OAKUM_CLI_RUN_KEEPER_H_
#define OAKUM_CLI_RUN_KEEPER_H_

#include <sys/types.h>

#include <memory>
#include <variant>
#include <vector>

#include "agent/kept/fd_store.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "cli/supervisor.h"

namespace oakum::cli {

// A program is looked into by an ancestor only (Yama), so the guard is its parent, and the keeper
// is the guard's: what the guard leaves behind becomes the keeper's (PR_SET_CHILD_SUBREAPER). What
// is kept goes through a pair of sockets that nobody else has a way to, the program neither.

// This process is the guard: the keeper is its parent.
struct GuardRole {
  std::unique_ptr<agent::FdStore> store;
  pid_t keeper = -1;
};
// This process was the keeper, and the guard has ended in good order or before its program began.
struct EndedRole {
  int status = 0;  // waitpid(2)
};
// This process was the keeper of a guard that has died, and is the guard from now on. Nobody keeps
// for it.
struct SuccessorRole {
  std::vector<agent::KeptItem> items;
  pid_t program = -1;
  UniqueFd listener;
  int status = 0;  // of the guard
};
using RunRole = std::variant<GuardRole, EndedRole, SuccessorRole>;

// Forks, as long as there is one thread. Returns in the guard at once, with the signals as they
// were, and in the keeper once the guard has ended. The keeper passes signals on to it, and is
// beyond the reach of who has its user (PR_SET_DUMPABLE). Errors: those of the calls.
[[nodiscard]] Expected<RunRole> SplitRun(Supervisor& supervisor);

// What a guard hands over when its program is about to begin. Errors: FdStore::Keep's.
[[nodiscard]] Expected<void> KeepProgram(agent::FdStore& store, pid_t program, int listener_fd);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_RUN_KEEPER_H_
