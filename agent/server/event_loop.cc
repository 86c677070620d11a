#include "agent/server/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

namespace oakum::agent {

namespace {

constexpr size_t kMaxEventsAtOnce = 64;

}  // namespace

Expected<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) {
    return ErrnoError("epoll_create1");
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll)));
}

Expected<void> EventLoop::Add(int fd, uint32_t events, Callback callback) {
  const uint64_t token = next_token_++;
  struct epoll_event event = {};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoError("epoll_ctl ADD");
  }
  watches_.emplace(token, std::make_shared<Watch>(Watch{fd, std::move(callback)}));
  tokens_[fd] = token;
  return {};
}

Expected<void> EventLoop::Modify(int fd, uint32_t events) {
  const auto found = tokens_.find(fd);
  if (found == tokens_.end()) {
    return ErrnoError(ENOENT, "epoll_ctl MOD");
  }
  struct epoll_event event = {};
  event.events = events;
  event.data.u64 = found->second;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    return ErrnoError("epoll_ctl MOD");
  }
  return {};
}

void EventLoop::Remove(int fd) {
  const auto found = tokens_.find(fd);
  if (found == tokens_.end()) {
    return;
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watches_.erase(found->second);
  tokens_.erase(found);
}

void EventLoop::Forget(int fd) {
  const auto found = tokens_.find(fd);
  if (found != tokens_.end()) {
    watches_.erase(found->second);
    tokens_.erase(found);
  }
}

EventLoop::TimerId EventLoop::AddTimer(Clock::duration delay, std::function<void()> callback) {
  const auto id = static_cast<TimerId>(next_timer_++);
  timer_places_.emplace(id, timers_.emplace(Clock::now() + delay, Timer{id, std::move(callback)}));
  return id;
}

void EventLoop::RemoveTimer(TimerId id) {
  const auto found = timer_places_.find(id);
  if (found != timer_places_.end()) {
    timers_.erase(found->second);
    timer_places_.erase(found);
  }
}

// Those that are due at the start: a timer that adds another one with no delay gives way.
bool EventLoop::RunTimers() {
  if (timers_.empty()) {
    return false;
  }
  bool ran = false;
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now && !stopped_) {
    timer_places_.erase(timers_.begin()->second.id);
    auto node = timers_.extract(timers_.begin());
    node.mapped().callback();
    ran = true;
  }
  return ran;
}

Expected<bool> EventLoop::RunOnce(Clock::duration timeout) {
  using std::chrono::milliseconds;
  if (!timers_.empty() && timeout > Clock::duration::zero()) {
    timeout = std::clamp(timers_.begin()->first - Clock::now(), Clock::duration::zero(), timeout);
  }
  const auto wait = std::chrono::ceil<milliseconds>(timeout).count();
  std::array<struct epoll_event, kMaxEventsAtOnce> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(),
                               static_cast<int>(std::min<long long>(wait, INT_MAX)));
  if (count < 0 && errno != EINTR) {
    return ErrnoError("epoll_wait");
  }
  for (int i = 0; i < count && !stopped_; ++i) {
    const struct epoll_event& event = events[static_cast<size_t>(i)];
    const auto found = watches_.find(event.data.u64);
    if (found == watches_.end()) {
      continue;  // removed by an earlier callback of this round
    }
    const std::shared_ptr<Watch> watch = found->second;  // lives through its own Remove
    watch->callback(event.events);
  }
  const bool ran = RunTimers();
  return ran || count > 0;
}

Expected<void> EventLoop::Run() {
  constexpr auto kLong = std::chrono::hours(24);
  while (!stopped_) {
    if (auto done = RunOnce(kLong); !done) {
      return std::unexpected(std::move(done.error()));
    }
  }
  return {};
}

}  // namespace oakum::agent
