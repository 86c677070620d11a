#include "agent/proxy/wakefulness.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace oakum::agent {

Wakefulness::Wakefulness() : Wakefulness(Clock::now, [] { sched_yield(); }) {}

Wakefulness::Wakefulness(std::function<Clock::time_point()> now, std::function<void()> yield)
    : now_(std::move(now)), yield_(std::move(yield)) {}

bool Wakefulness::Waits(const std::function<bool()>& look) {
  const Clock::time_point start = now_();
  if (start >= lively_until_ || !IsWorthIt()) {
    return false;
  }
  bool came = look();
  if (came) {
    return true;  // it was there already, which says nothing about what comes
  }
  while (!came && now_() - start < kLooks) {
    yield_();
    came = look();
  }
  // Whoever had the processor for so long would have had to give way to a thread that is woken up.
  const bool late = now_() - start >= 2 * kLooks;
  credit_ = came && !late ? std::min(credit_ + 1, kMaxCredit) : std::max(credit_ - 2, 0);
  return came;
}

bool Wakefulness::IsWorthIt() { return credit_ > 0 || ++skipped_ % kTriesAgain == 0; }

}  // namespace oakum::agent
