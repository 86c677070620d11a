// The container's threads as the agent sees them: memory, descriptors, credentials.
#ifndef OAKUM_AGENT_CALLER_TASK_H_
#define OAKUM_AGENT_CALLER_TASK_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/caller/socket_kinds.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Reads `out.size()` bytes at `address` of thread `tid` (process_vm_readv(2)). Returns how many
// bytes could be read before the first unreadable page, which may be fewer; 0 with errno EFAULT
// when none. Whoever calls must check afterwards that the notification is still valid: the number
// `tid` may have been reused.
[[nodiscard]] size_t ReadMemory(pid_t tid, uint64_t address, void* out, size_t size);
// The same for several places at once; pieces are read in order until one fails.
[[nodiscard]] size_t ReadMemoryVector(pid_t tid, std::span<const iovec> remote, void* out,
                                      size_t size);
// Writes to the thread's memory (process_vm_writev(2)). False when not all of it is writable.
[[nodiscard]] bool WriteMemory(pid_t tid, uint64_t address, const void* data, size_t size);
// The same for up to IOV_MAX places at once, in order. Returns how many bytes were written before
// the first page that is not writable.
[[nodiscard]] size_t WriteMemoryVector(pid_t tid, std::span<const iovec> remote, const void* data,
                                       size_t size);

// Whom a message names that says nothing else (scm_send(), include/net/scm.h), with ids of the
// agent's namespaces.
struct RealIds {
  pid_t tgid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

// Takes duplicates of the container's descriptors. Keeps a pidfd per thread: one that belongs to a
// dead thread says ESRCH and is opened anew, so a reused thread id is never mistaken.
// Not thread-safe: each session thread has its own.
class DescriptorSource {
 public:
  // `thread_pidfds`: false where the kernel is known to be older than PIDFD_THREAD.
  explicit DescriptorSource(bool thread_pidfds = true) : thread_pidfds_(thread_pidfds) {}

  [[nodiscard]] bool thread_pidfds() const { return thread_pidfds_; }

  // Duplicates descriptor `fd` of thread `tid` (pidfd_getfd(2)) into `out`, close-on-exec.
  // Returns 0 or an errno value: EBADF, ESRCH, EPERM (also when the thread's descriptor table is
  // not its group's and the kernel has no PIDFD_THREAD), ENOBUFS where this process has waited in
  // vain for room for another descriptor.
  [[nodiscard]] int Get(pid_t tid, int fd, UniqueFd& out);
  // The group of a thread that a descriptor has just been taken from, and that waits for its
  // answer; 0 when it cannot be told. Remembered with the thread's pidfd.
  [[nodiscard]] pid_t GroupOf(pid_t tid);
  // Who such a thread is; nothing where it takes more than one system call to tell (before
  // Linux 6.13).
  [[nodiscard]] std::optional<RealIds> IdsOf(pid_t tid);
  // Those of the sockets that were taken.
  [[nodiscard]] SocketKinds& kinds() { return kinds_; }
  // Whether the kernel has refused a descriptor (EPERM) since the last time this was asked.
  [[nodiscard]] bool TakeRefused() { return std::exchange(refused_, false); }

 private:
  struct Slot {
    pid_t tid = 0;
    UniqueFd pidfd;
    pid_t group = 0;  // 0: not known yet
  };
  [[nodiscard]] int Open(pid_t tid, UniqueFd& out);
  [[nodiscard]] int Fetch(pid_t tid, int fd, UniqueFd& out);

  static constexpr size_t kSlots = 8;
  std::array<Slot, kSlots> slots_;
  SocketKinds kinds_;
  bool refused_ = false;
  bool tells_ids_ = true;  // PIDFD_GET_INFO, Linux 6.13; false once the kernel does not know it
  bool thread_pidfds_;     // PIDFD_THREAD, Linux 6.9; false once the kernel has said EINVAL
};

// What /proc/TID/status says (proc_pid_status(5)). Ids are those of the agent's user namespace.
struct TaskStatus {
  pid_t tgid = 0;
  uid_t ruid = 0, euid = 0, fsuid = 0;
  gid_t rgid = 0, egid = 0, fsgid = 0;
  std::vector<gid_t> groups;
  uint64_t effective_capabilities = 0;
  uint64_t bounding_capabilities = 0;
  uint64_t threads = 0;         // of its group
  uint64_t seccomp = 0;         // mode, seccomp(2)
  uint64_t caught_signals = 0;  // those that have a handler; signal N is bit N - 1
  mode_t umask = 022;
  std::string name;  // comm
};
// Errors: ESRCH when the thread is gone, or those of open(2) and read(2).
[[nodiscard]] Expected<TaskStatus> ReadTaskStatus(pid_t tid);

// When process or thread `pid` started, in clock ticks since the machine did: with the number it
// tells one from all others (proc_pid_stat(5), field 22). 0 when it cannot be read.
[[nodiscard]] uint64_t ReadStartTime(pid_t pid);

// Whether thread `tid`, which waits for its answer and so cannot do anything about it, is alone in
// its group and no other task has its descriptor table (clone(2), CLONE_FILES): then nobody can put
// another file under one of its numbers. False in doubt, and where there are too many tasks to look
// at all of them. Looks at each task of the machine: 2 microseconds each.
[[nodiscard]] bool OwnsDescriptorTable(pid_t tid, const TaskStatus& status);

// The same, remembered for a moment as long as no task is made. Not thread-safe.
class TableOwners {
 public:
  [[nodiscard]] bool Owns(pid_t tid, const TaskStatus& status);

 private:
  struct Slot {
    pid_t tid = 0;
    std::string newest_task;
    std::chrono::steady_clock::time_point until;
  };
  static constexpr size_t kSlots = 8;
  // Shorter than it takes to make tasks until their numbers come round to the same one again
  // (proc_sys_kernel(5), pid_max); not used where that is small.
  static constexpr std::chrono::milliseconds kRemember{20};
  std::array<Slot, kSlots> slots_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_TASK_H_
