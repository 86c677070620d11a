// Whether several threads of a container call at the same time, and do something else in between.
#ifndef OAKUM_AGENT_SESSION_CONCURRENT_CALLERS_H_
#define OAKUM_AGENT_SESSION_CONCURRENT_CALLERS_H_

#include <sys/types.h>

#include <algorithm>
#include <chrono>

namespace oakum::agent {

// A caller that is woken up on the processor of the thread that answers it takes that processor
// over without a delay (Linux 6.6, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP). Of several callers it
// gathers all on that one processor. Those that do nothing but call lose nothing by that, and
// disturb others less; those that work in between wait for each other while another processor has
// nothing to do. This class tells the latter: the thread that calls has changed twice within
// kTogether, and not longer ago than that, and the thread that answers waits longer for calls than
// it takes for them. For one thread.
class ConcurrentCallers {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration kTogether = std::chrono::milliseconds(1);

  // Notes that a call by the thread `tid` has come. True where callers are not to be gathered.
  // `now` gives a Clock::time_point, and is not asked as long as one thread calls alone.
  template <typename Now>
  [[nodiscard]] bool Begin(pid_t tid, const Now& now) {
    if (tid == last_ && !several_) {
      return false;
    }
    const Clock::time_point time = now();
    const bool together = last_ != 0 && time - changed_ < kTogether;
    if (together && several_) {
      Weigh(time);
    }
    if (tid != last_) {
      last_ = tid;
      changed_ = time;
    }
    several_ = together;
    begun_ = time;
    return several_ && spread_;
  }

  // That it has been dealt with, and the next one is waited for.
  template <typename Now>
  void End(const Now& now) {
    if (several_) {
      ended_ = now();
    }
  }

 private:
  static constexpr int kWeight = 32;      // of what was before, beside one call
  static constexpr int kMostAtOnce = 10;  // times the work: a pause says nothing of the calls

  // Means over the last calls. Callers are gathered again at a third of what spreads them: once
  // spread, they wait less for each other, and the answering thread less for them.
  void Weigh(Clock::time_point time) {
    work_ += (ended_ - begun_ - work_) / kWeight;
    waited_ += (std::min(time - ended_, kMostAtOnce * work_) - waited_) / kWeight;
    spread_ = waited_ > (spread_ ? work_ / 3 : work_);
  }

  pid_t last_ = 0;
  bool several_ = false;
  bool spread_ = false;
  Clock::time_point changed_;
  Clock::time_point begun_;
  Clock::time_point ended_;
  Clock::duration work_{};
  Clock::duration waited_{};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_CONCURRENT_CALLERS_H_
