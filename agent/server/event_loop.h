// One thread that waits for descriptors and times: a small face on epoll(7).
#ifndef OAKUM_AGENT_SERVER_EVENT_LOOP_H_
#define OAKUM_AGENT_SERVER_EVENT_LOOP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Not thread-safe: everything happens on the thread that calls Run. Callbacks may add and remove
// anything, themselves included.
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Callback = std::function<void(uint32_t events)>;
  enum class TimerId : uint64_t { kNone = 0 };

  // Errors: epoll_create1(2)'s.
  [[nodiscard]] static Expected<std::unique_ptr<EventLoop>> Create();

  // Calls back while `fd` is ready for one of `events` (EPOLLIN, EPOLLOUT ...; level-triggered).
  // The caller keeps the descriptor open until Remove. Errors: epoll_ctl(2)'s.
  [[nodiscard]] Expected<void> Add(int fd, uint32_t events, Callback callback);
  // Errors: epoll_ctl(2)'s; ENOENT when `fd` was not added.
  [[nodiscard]] Expected<void> Modify(int fd, uint32_t events);
  // No callback comes after this. Nothing happens when `fd` was not added.
  void Remove(int fd);
  // The same for one that is closed next and that nobody else holds open: epoll(7) lets go of it
  // then without being told.
  void Forget(int fd);

  // Calls back once, `delay` from now. Adding and removing cost O(log n) of what is waited for.
  TimerId AddTimer(Clock::duration delay, std::function<void()> callback);
  // Nothing happens when the timer has fired, or was removed.
  void RemoveTimer(TimerId id);

  // Runs until Stop. Errors: epoll_wait(2)'s.
  [[nodiscard]] Expected<void> Run();
  // One wait of at most `timeout`, and its callbacks: whether there were any. Errors: as above.
  [[nodiscard]] Expected<bool> RunOnce(Clock::duration timeout);
  void Stop() { stopped_ = true; }

 private:
  struct Watch {
    int fd;
    Callback callback;
  };
  struct Timer {
    TimerId id;
    std::function<void()> callback;
  };

  explicit EventLoop(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  bool RunTimers();

  UniqueFd epoll_;
  // epoll reports a token, never a descriptor: a number that was closed and used again in the same
  // round of events must not get its predecessor's event.
  uint64_t next_token_ = 1;
  std::unordered_map<uint64_t, std::shared_ptr<Watch>> watches_;
  std::unordered_map<int, uint64_t> tokens_;  // by descriptor
  uint64_t next_timer_ = 1;
  using Timers = std::multimap<Clock::time_point, Timer>;
  Timers timers_;
  std::unordered_map<TimerId, Timers::iterator> timer_places_;
  bool stopped_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_EVENT_LOOP_H_
