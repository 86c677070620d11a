// Sees to sessions that end.
#ifndef OAKUM_AGENT_SESSION_UNDERTAKER_H_
#define OAKUM_AGENT_SESSION_UNDERTAKER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "agent/server/wakeable_epoll.h"
#include "base/error.h"

namespace oakum::agent {

// One thread that finds out which listeners have no task any more, and buries sessions aside from
// the threads that they had. Sessions go by their numbers, which are not 0. Thread-safe.
class Undertaker {
 public:
  struct Duties {
    std::function<void(uint64_t)> hung_up;  // told again and again until it has been buried
    std::function<void(uint64_t)> bury;     // after Ended()
  };

  // Starts the thread. What the duties use outlives it. std::system_error where there is none.
  Undertaker(WakeableEpoll waits, Duties duties);
  ~Undertaker();
  Undertaker(const Undertaker&) = delete;
  Undertaker& operator=(const Undertaker&) = delete;

  // Returns 0 or epoll_ctl(2)'s errno.
  [[nodiscard]] int Watch(uint64_t number, int listener_fd) const;
  void Unwatch(int listener_fd) const;
  void Ended(uint64_t number);
  // Joins the thread.
  void Stop();

  // The key of `waits` (WakeableEpoll::Create).
  static constexpr uint64_t kWakeKey = 0;

 private:
  void Wake() const;
  void Loop();
  void BuryEnded();

  const WakeableEpoll waits_;
  const Duties duties_;
  std::mutex mutex_;
  std::vector<uint64_t> ended_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_UNDERTAKER_H_
