// When a connect(2) on a unix socket may be left to the kernel, so that the server sees the
// caller's process id (SO_PEERCRED, unix(7)).
#ifndef OAKUM_AGENT_CALLER_NATIVE_UNIX_H_
#define OAKUM_AGENT_CALLER_NATIVE_UNIX_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "agent/caller/connect_guard.h"
#include "agent/caller/mount_table.h"
#include "agent/caller/task.h"

namespace oakum::agent {

// A call that the kernel carries out takes its arguments anew: memory may name another unix socket
// by then, and another thread may have put another socket under the number. The first does no harm
// where no rule denies a unix socket (policy::Policy::guards_unix() is false: the caller's
// business). Against the second one of two things must hold:
//
// - The container is alone in a cgroup (v2) that it cannot leave and that a ConnectGuard guards:
// then
//   the container can connect no internet socket, wherever it has it from. Sockets of other
//   families that could be connected cannot be made under a guard.
// - Or the caller is the only task that has its descriptor table.
//
// Shared by all sessions of a container. Thread-safe.
class NativeUnix {
 public:
  // `pid`: the container's first process, 0 when unknown.
  NativeUnix(pid_t pid, std::shared_ptr<GuardedCgroups> cgroups)
      : pid_(pid), cgroups_(std::move(cgroups)) {}
  ~NativeUnix() { Suspend(); }
  NativeUnix(const NativeUnix&) = delete;
  NativeUnix& operator=(const NativeUnix&) = delete;

  // Whether connect(2) of thread `tid`, which waits for its answer, may be left to the kernel.
  [[nodiscard]] bool AllowsConnect(pid_t tid, const TaskStatus& status);
  // The same for listen(2), which no ConnectGuard covers.
  [[nodiscard]] bool AllowsListen(pid_t tid, const TaskStatus& status);

  // Takes the guard off, and puts none on until Resume(): the policy is about to audit, and will
  // let the container connect by itself. A call that an earlier policy still decides may come
  // after.
  void Suspend();
  // The policy does not audit: before the first call that it decides.
  void Resume();

 private:
  enum class State : uint8_t { kUntried, kGuarded, kRefused };

  [[nodiscard]] bool IsGuarded(pid_t tid);  // under mutex_
  // The id of the container's cgroup, which is guarded then; empty when it cannot be done.
  [[nodiscard]] std::optional<uint64_t> Guard(pid_t tid);

  const pid_t pid_;
  const std::shared_ptr<GuardedCgroups> cgroups_;
  std::mutex mutex_;
  State state_ = State::kUntried;
  bool suspended_ = false;
  std::string cgroup_;  // path from the root of the hierarchy
  std::optional<uint64_t> guarded_;
  TableOwners owners_;
};

// The cgroup (v2) in what /proc/PID/cgroup says: the path of the line "0::" (cgroups(7)); empty
// when there is none.
[[nodiscard]] std::string UnifiedCgroup(std::string_view proc_cgroup);

// Whether a process that sees these mounts could move itself out of `cgroup`: one shows more of the
// hierarchy than that, and may be written to.
[[nodiscard]] bool ShowsMoreCgroups(const std::vector<Mount>& mounts, std::string_view cgroup);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_NATIVE_UNIX_H_
