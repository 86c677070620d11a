#include "agent/proxy/nursery.h"

#include <utility>

namespace oakum::agent {

void Nursery::Enter(Keepable& one) {
  if (ending_ && one.KeepNow()) {
    return;
  }
  children_.push_back({EventLoop::Clock::now() + kYoung, &one});
  one.place_ = std::prev(children_.end());
  Arm();
}

void Nursery::Leave(Keepable& one) {
  if (one.place_) {
    children_.erase(*std::exchange(one.place_, std::nullopt));
  }
}

void Nursery::KeepAll() {
  ending_ = true;
  Keep(EventLoop::Clock::time_point::max());
}

void Nursery::Keep(EventLoop::Clock::time_point until) {
  const auto again = EventLoop::Clock::now() + kYoung;
  for (size_t left = children_.size(); left > 0 && children_.front().due <= until; --left) {
    Keepable& one = *children_.front().who;
    Leave(one);
    if (!one.KeepNow()) {
      children_.push_back({again, &one});
      one.place_ = std::prev(children_.end());
    }
  }
}

// Stays armed when all have left: the next one comes soon, or never.
void Nursery::Arm() {
  if (!std::exchange(armed_, true)) {
    loop_.AddTimer(kYoung, [this] {
      armed_ = false;
      Keep(EventLoop::Clock::now());
      if (!children_.empty()) {
        Arm();
      }
    });
  }
}

}  // namespace oakum::agent
