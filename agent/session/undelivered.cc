#include "agent/session/undelivered.h"

#include <algorithm>

namespace oakum::agent {

namespace {

bool SameCall(const Notification& a, const Notification& b) {
  return a.tid == b.tid && a.nr == b.nr && a.arch == b.arch &&
         std::equal(std::begin(a.args), std::end(a.args), std::begin(b.args));
}

}  // namespace

void Undelivered::DropExpired() {
  const Clock::time_point now = Clock::now();
  while (!entries_.empty() &&
         (entries_.size() > kMaxKept || now - entries_.front().since > kLifetime)) {
    entries_.pop_front();
  }
  size_.store(entries_.size(), std::memory_order_release);
}

void Undelivered::Keep(const GuardedCall& call, uint64_t socket_cookie, Answer answer) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({call.notification, socket_cookie, Clock::now(), std::move(answer)});
  DropExpired();
}

std::optional<Answer> Undelivered::Take(const GuardedCall& call, uint64_t socket_cookie) {
  const std::lock_guard lock(mutex_);
  DropExpired();
  const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) {
    return entry.socket_cookie == socket_cookie && SameCall(entry.call, call.notification);
  });
  if (found == entries_.end()) {
    return std::nullopt;
  }
  Answer answer = std::move(found->answer);
  entries_.erase(found);
  size_.store(entries_.size(), std::memory_order_release);
  return answer;
}

}  // namespace oakum::agent
