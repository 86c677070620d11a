// Who made a call, for events.
#ifndef OAKUM_AGENT_CALLER_PROCESS_INFO_H_
#define OAKUM_AGENT_CALLER_PROCESS_INFO_H_

#include <memory>

#include "agent/events/event.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Reads /proc/TID of a thread that is waiting for its answer. Fields that cannot be read stay
// empty; null when the thread is gone. Check afterwards that the notification is still valid.
// `with_memory`: also what is in the process's own memory, which is its command line
// (proc_pid_cmdline(5)). That can wait for as long as the process likes, which may hold its
// mmap_lock (fuse(4)): only for threads that hold up nobody else.
[[nodiscard]] std::shared_ptr<const ProcessInfo> ReadProcessInfo(pid_t tid, bool with_memory);

// The same, command line included. Where a thread is read several times in a row, its files in
// /proc stay open. They go with the thread, whatever it executes and whoever gets its number. Not
// thread-safe.
class ProcessReader {
 public:
  [[nodiscard]] std::shared_ptr<const ProcessInfo> Read(pid_t tid);

 private:
  [[nodiscard]] bool Open(pid_t tid);
  // False when the thread is gone.
  [[nodiscard]] bool ReadInto(ProcessInfo& info) const;

  pid_t tid_ = 0;
  pid_t group_ = 0;
  UniqueFd directory_;
  UniqueFd name_;
  UniqueFd command_line_;
  std::shared_ptr<const ProcessInfo> last_;  // given out again while nothing has changed
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_PROCESS_INFO_H_
