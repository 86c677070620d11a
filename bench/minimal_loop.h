// The least that any agent has to do for a guarded call, the floor that Oakum is measured by; and
// what an agent does that is written as seccomp_unotify(2) shows it.
#ifndef OAKUM_BENCH_MINIMAL_LOOP_H_
#define OAKUM_BENCH_MINIMAL_LOOP_H_

#include <sys/types.h>

#include <cstdint>
#include <thread>

#include "base/unique_fd.h"

namespace oakum::bench {

// A thread that receives, copies the arguments (of connect, sendto and sendmmsg), checks the id,
// pins the socket, performs the call on it, closes it and answers, with no decision, bookkeeping or
// error handling in between. Ends when the listener's tasks have gone.
class MinimalLoop {
 public:
  enum class Manner : uint8_t {
    kMinimal,        // the same kernel operations as Oakum
    kWithoutWakeUp,  // those, without SYNC_WAKE_UP
    kAsUsual,        // without SYNC_WAKE_UP; poll(2) before each call, /proc/TID/mem and a pidfd
                     // opened for it and closed, one pread(2) or pwrite(2) for each piece
  };

  MinimalLoop(UniqueFd listener, pid_t pid, Manner manner);
  ~MinimalLoop();
  MinimalLoop(const MinimalLoop&) = delete;
  MinimalLoop& operator=(const MinimalLoop&) = delete;

 private:
  std::thread thread_;
};

}  // namespace oakum::bench

#endif  // OAKUM_BENCH_MINIMAL_LOOP_H_
