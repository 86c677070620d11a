// Who made a call, for events.
#ifndef OAKUM_AGENT_CALLER_PROCESS_INFO_H_
#define OAKUM_AGENT_CALLER_PROCESS_INFO_H_

#include <memory>

#include "agent/events/event.h"

namespace oakum::agent {

// Reads /proc/TID of a thread that is waiting for its answer. Fields that cannot be read stay
// empty; null when the thread is gone. Check afterwards that the notification is still valid.
// `with_memory`: also what is in the process's own memory, which is its command line
// (proc_pid_cmdline(5)). That can wait for as long as the process likes, which may hold its
// mmap_lock (fuse(4)): only for threads that hold up nobody else.
[[nodiscard]] std::shared_ptr<const ProcessInfo> ReadProcessInfo(pid_t tid, bool with_memory);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_PROCESS_INFO_H_
