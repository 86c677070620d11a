// Whether several threads of a container call at the same time.
#ifndef OAKUM_AGENT_SESSION_CONCURRENT_CALLERS_H_
#define OAKUM_AGENT_SESSION_CONCURRENT_CALLERS_H_

#include <sys/types.h>

#include <chrono>

namespace oakum::agent {

// A caller that is woken up on the processor of the thread that answers it takes that processor
// over without a delay (Linux 6.6, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP). Of several callers it
// gathers all on that one processor, where they wait for each other while others have nothing to
// do. This class tells the two apart: callers are concurrent once the thread that calls has changed
// twice within kTogether, and until it has not changed for as long. For one thread.
class ConcurrentCallers {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration kTogether = std::chrono::milliseconds(1);

  // Notes a call by the thread `tid`. True while callers are concurrent. `now` gives a
  // Clock::time_point, and is not asked as long as one thread calls alone.
  template <typename Now>
  [[nodiscard]] bool Note(pid_t tid, const Now& now) {
    if (tid == last_ && !concurrent_) {
      return false;
    }
    const Clock::time_point time = now();
    const bool together = time - changed_ < kTogether;
    if (tid != last_) {
      concurrent_ = together && last_ != 0;
      last_ = tid;
      changed_ = time;
    } else {
      concurrent_ = together;
    }
    return concurrent_;
  }

 private:
  pid_t last_ = 0;
  Clock::time_point changed_;
  bool concurrent_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_CONCURRENT_CALLERS_H_
