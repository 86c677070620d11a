// Who made a call, for events.
#ifndef OAKUM_AGENT_CALLER_PROCESS_INFO_H_
#define OAKUM_AGENT_CALLER_PROCESS_INFO_H_

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "agent/events/event.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Reads /proc/TID of a thread that is waiting for its answer. Fields that cannot be read stay
// empty; null when the thread is gone. Check afterwards that the notification is still valid.
// `with_memory`: also what is in the process's own memory, which is its command line
// (proc_pid_cmdline(5)). That can wait for as long as the process likes, which may hold its
// mmap_lock (fuse(4)): only for threads that hold up nobody else.
[[nodiscard]] std::shared_ptr<const ProcessInfo> ReadProcessInfo(pid_t tid, bool with_memory);

// The same, command line included. Where a thread is read several times, its files in /proc stay
// open: those of kThreads threads at most, three for each. They go with the thread, whatever it
// executes and whoever gets its number, and each is read anew every time, for all of it can change
// between two calls. Not thread-safe.
class ProcessReader {
 public:
  static constexpr size_t kThreads = 8;

  [[nodiscard]] std::shared_ptr<const ProcessInfo> Read(pid_t tid);

 private:
  // By thread id; one with the same remainder takes another's place.
  struct Thread {
    pid_t tid = 0;
    pid_t group = 0;
    UniqueFd directory;
    UniqueFd name;
    UniqueFd command_line;
    std::shared_ptr<const ProcessInfo> last;  // given out again while nothing has changed
    std::string last_name;                    // before it was escaped

    [[nodiscard]] bool Open(pid_t thread_id);
    // Has `last` say what is so now. False when the thread is gone.
    [[nodiscard]] bool Renew();
  };

  std::array<Thread, kThreads> threads_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_PROCESS_INFO_H_
