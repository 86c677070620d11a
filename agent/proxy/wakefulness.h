// Whether a thread that has run out of work looks for more for a moment before it sleeps.
#ifndef OAKUM_AGENT_PROXY_WAKEFULNESS_H_
#define OAKUM_AGENT_PROXY_WAKEFULNESS_H_

#include <chrono>
#include <cstdint>
#include <functional>

namespace oakum::agent {

// A processor that has gone idle takes some 20 us to come back, more than a proxy on this machine
// takes to answer: a connection through one waits five or six times. So a worker that has just been
// given something looks again and again instead of sleeping, and lets everybody else run in between
// (sched_yield(2)). Nothing is looked for unless there was a job lately, never for longer than
// kLooks at a time, and hardly at all where what comes has been coming later than that: a proxy far
// away, a busy machine. Not thread-safe.
class Wakefulness {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kLooks{100};
  // How long after the last job it may look.
  static constexpr std::chrono::milliseconds kLively{1};
  // One in so many of the times that are not worth it, to see if they are again.
  static constexpr unsigned kTriesAgain = 64;
  // What a success adds one to, and a failure takes two from; at 0 it is not worth it.
  static constexpr int kMaxCredit = 16;

  Wakefulness();
  // Other clocks and ways to let others run.
  Wakefulness(std::function<Clock::time_point()> now, std::function<void()> yield);

  // There was a job.
  void Job() { lively_until_ = now_() + kLively; }
  // Returns true as soon as `look` does; false when it is time to sleep, where `look` may not have
  // been called at all.
  [[nodiscard]] bool Waits(const std::function<bool()>& look);

 private:
  [[nodiscard]] bool IsWorthIt();

  std::function<Clock::time_point()> now_;
  std::function<void()> yield_;
  Clock::time_point lively_until_{};
  int credit_ = kMaxCredit;
  unsigned skipped_ = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_WAKEFULNESS_H_
