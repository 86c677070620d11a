// Who made a call, for events.
#ifndef OAKUM_AGENT_CALLER_PROCESS_INFO_H_
#define OAKUM_AGENT_CALLER_PROCESS_INFO_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
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

// The random bytes that the kernel gives each program that is executed (AT_RANDOM, getauxval(3)):
// while a thread's memory shows them, it runs the program that it ran then.
struct ProgramMark {
  uint64_t address = 0;  // in the thread's memory; 0: not known
  bool read = false;     // `bytes` are what is there
  std::array<char, 16> bytes{};
};

// The same, command line included. Where a thread is read several times, its files in /proc stay
// open: those of kThreads threads at most, three for each. They go with the thread, whatever it
// executes and whoever gets its number. Name and user are read anew for each call, for both can
// change between two; so are program and command line where the ones that are known are older than
// kFresh, or where the thread's memory does not show the mark of that program. Only who puts it
// back after an execve(2) passes for another one, and for kFresh at most. Not thread-safe.
class ProcessReader {
 public:
  static constexpr size_t kThreads = 8;
  static constexpr std::chrono::milliseconds kFresh{10};

  // `call`: the notification; what was read for it holds for all that comes of it within kFresh.
  // `seen`: the mark at MarkOf(), where it was read since the thread made that call.
  [[nodiscard]] std::shared_ptr<const ProcessInfo> Read(pid_t tid, uint64_t call,
                                                        const ProgramMark& seen = {});
  // Where Read() will look for the mark of that thread's program; 0 where it will not.
  [[nodiscard]] uint64_t MarkOf(pid_t tid) const;

 private:
  using Time = std::chrono::steady_clock::time_point;

  // By thread id; one with the same remainder takes another's place.
  struct Thread {
    pid_t tid = 0;
    pid_t group = 0;
    UniqueFd directory;
    UniqueFd name;
    UniqueFd command_line;
    std::shared_ptr<const ProcessInfo> last;  // given out again while nothing has changed
    std::string last_name;                    // before it was escaped
    uint64_t last_call = 0;                   // that `last` was given out for
    Time last_said;                           // and when
    Time last_read;                           // program and command line
    ProgramMark mark;
    Time no_mark_before;  // it has none that is of use, and is not asked again before

    [[nodiscard]] bool Open(pid_t thread_id);
    // Has `last` say what is so now. False when the thread is gone.
    [[nodiscard]] bool Renew(Time now, const ProgramMark& seen);
    // Looks where the mark is now and reads it.
    void FindMark(Time now);
    [[nodiscard]] bool ShowsMark(const ProgramMark& seen) const;
  };

  std::array<Thread, kThreads> threads_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_PROCESS_INFO_H_
