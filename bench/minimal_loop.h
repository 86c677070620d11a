// The least that any agent has to do for a guarded call: the floor that Oakum is measured by.
#ifndef OAKUM_BENCH_MINIMAL_LOOP_H_
#define OAKUM_BENCH_MINIMAL_LOOP_H_

#include <memory>
#include <thread>

#include "base/unique_fd.h"

namespace oakum::bench {

// A thread that receives, copies the arguments (of connect, sendto and sendmmsg), checks the id,
// pins the socket, performs the call on it, closes it and answers, with the same kernel operations
// as Oakum and no decision, bookkeeping or error handling in between. Ends when the listener's
// tasks have gone.
class MinimalLoop {
 public:
  MinimalLoop(UniqueFd listener, pid_t pid, bool sync_wake_up);
  ~MinimalLoop();
  MinimalLoop(const MinimalLoop&) = delete;
  MinimalLoop& operator=(const MinimalLoop&) = delete;

 private:
  std::thread thread_;
};

}  // namespace oakum::bench

#endif  // OAKUM_BENCH_MINIMAL_LOOP_H_
