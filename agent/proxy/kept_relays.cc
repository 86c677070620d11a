#include "agent/proxy/kept_relays.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/session/session_core.h"

namespace oakum::agent {

size_t KeptRelays::MaxByLimit() {
  constexpr size_t kPart = 16;
  constexpr size_t kUnknownLimit = 1024;
  rlimit limit = {};
  return std::min(kMax,
                  (getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : kUnknownLimit) / kPart);
}

KeptRelays::KeptRelays(FdStore* store, const Log& log)
    : store_(store), max_(store != nullptr ? MaxByLimit() : 0), log_(log) {}

KeptRelays::Result KeptRelays::Keep(const std::string& name, std::weak_ptr<SessionCore> session,
                                    const KeptEnds& ends) {
  const std::lock_guard lock(mutex_);
  if (store_ == nullptr || name.empty()) {
    return Result::kNever;
  }
  if (entries_.size() >= max_) {
    if (!std::exchange(said_full_, true)) {
      log_.Warning("{} connections are kept for the next agent: what is more ends with this one",
                   max_);
    }
    return Result::kNever;
  }
  Entry entry{std::move(session), ends, true};
  if (!HandOver(name, entry, false)) {
    return Result::kLater;
  }
  entries_.insert_or_assign(name, std::move(entry));
  return Result::kKept;
}

void KeptRelays::TakeUp(const std::string& name, std::weak_ptr<SessionCore> session,
                        const KeptEnds& ends) {
  const std::lock_guard lock(mutex_);
  entries_.insert_or_assign(name, Entry{std::move(session), ends, true});
}

void KeptRelays::Forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  entries_.erase(name);
  said_full_ = said_full_ && entries_.size() > max_ / 2;
  if (store_ != nullptr) {
    store_->Forget(name);
  }
}

void KeptRelays::LetGo(const std::string& name) {
  const std::lock_guard lock(mutex_);
  entries_.erase(name);
}

void KeptRelays::KeepAgain() {
  const std::lock_guard lock(mutex_);
  for (auto& [name, entry] : entries_) {
    entry.handed = false;
  }
}

size_t KeptRelays::KeepRest() {
  const std::lock_guard lock(mutex_);
  size_t left = 0;
  for (auto& [name, entry] : entries_) {
    if (!entry.handed) {
      entry.handed = left == 0 && HandOver(name, entry, true);
      left += entry.handed ? 0 : 1;
    }
  }
  return left;
}

bool KeptRelays::HandOver(const std::string& name, const Entry& entry, bool waits) {
  const auto session = entry.session.lock();
  if (session == nullptr) {
    return true;  // its container has ended: there is nobody to go on with it
  }
  // With the listener: whoever keeps it hears when the container has ended.
  std::vector<int> fds = {session->notify().fd()};
  for (const int fd : entry.ends) {
    if (fd >= 0) {
      fds.push_back(fd);
    }
  }
  return (waits ? store_->Keep(name, fds) : store_->TryKeep(name, fds)).has_value();
}

}  // namespace oakum::agent
