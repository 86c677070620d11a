#include "agent/proxy/peers.h"

namespace oakum::agent {

void Peers::Remember(uint64_t cookie, const policy::Endpoint& asked_for) {
  const std::lock_guard lock(mutex_);
  if (const auto found = by_cookie_.find(cookie); found != by_cookie_.end()) {
    found->second->asked_for = asked_for;
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
  }
  if (entries_.size() == kMaxEntries) {
    by_cookie_.erase(entries_.back().cookie);
    entries_.pop_back();
  }
  entries_.push_front({cookie, asked_for});
  by_cookie_.emplace(cookie, entries_.begin());
}

void Peers::Forget(uint64_t cookie) {
  const std::lock_guard lock(mutex_);
  if (const auto found = by_cookie_.find(cookie); found != by_cookie_.end()) {
    entries_.erase(found->second);
    by_cookie_.erase(found);
  }
}

std::optional<policy::Endpoint> Peers::Find(uint64_t cookie) {
  const std::lock_guard lock(mutex_);
  const auto found = by_cookie_.find(cookie);
  if (found == by_cookie_.end()) {
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->asked_for;
}

}  // namespace oakum::agent
