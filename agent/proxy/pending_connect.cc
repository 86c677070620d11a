#include "agent/proxy/pending_connect.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "base/unique_fd.h"

namespace oakum::agent {

void PendingConnect::Enter(int socket_fd) {
  const std::lock_guard lock(mutex_);
  waiting_fds_.push_back(socket_fd);
}

void PendingConnect::Leave(int socket_fd) {
  const std::lock_guard lock(mutex_);
  if (const auto found = std::ranges::find(waiting_fds_, socket_fd); found != waiting_fds_.end()) {
    waiting_fds_.erase(found);
  }
}

void PendingConnect::Fail(int error) {
  const std::lock_guard lock(mutex_);
  error_ = error;
}

bool PendingConnect::Reset() {
  UniqueFd socket;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_fds_.empty()) {
      return false;
    }
    // All of them are the same socket.
    socket.Reset(fcntl(waiting_fds_.front(), F_DUPFD_CLOEXEC, 0));
  }
  sockaddr unspecified = {};
  unspecified.sa_family = AF_UNSPEC;
  (void)connect(socket.get(), &unspecified, sizeof unspecified);
  return true;
}

int PendingConnect::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void PendingConnect::SetCancel(std::function<void()> cancel) {
  {
    const std::lock_guard lock(mutex_);
    if (!cancelled_) {
      cancel_ = std::move(cancel);
      return;
    }
  }
  cancel();
}

void PendingConnect::Cancel() {
  std::function<void()> cancel;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    cancel.swap(cancel_);
  }
  if (cancel) {
    cancel();
  }
}

std::shared_ptr<PendingConnect> PendingConnects::Find(uint64_t cookie) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_cookie_.find(cookie);
  return found != by_cookie_.end() ? found->second : nullptr;
}

std::shared_ptr<PendingConnect> PendingConnects::Add(uint64_t cookie, const SockaddrCopy& address) {
  std::shared_ptr<PendingConnect> old;
  auto fresh = std::make_shared<PendingConnect>(cookie, address);
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || by_cookie_.size() >= kMax) {
      return nullptr;
    }
    auto& entry = by_cookie_[cookie];
    old = std::exchange(entry, fresh);
  }
  if (old != nullptr) {
    old->Cancel();
  }
  return fresh;
}

void PendingConnects::Remove(const PendingConnect& pending) {
  const std::lock_guard lock(mutex_);
  const auto found = by_cookie_.find(pending.cookie());
  if (found != by_cookie_.end() && found->second.get() == &pending) {
    by_cookie_.erase(found);
  }
}

void PendingConnects::Drop(uint64_t cookie) {
  std::shared_ptr<PendingConnect> old;
  {
    const std::lock_guard lock(mutex_);
    const auto node = by_cookie_.extract(cookie);
    old = node ? node.mapped() : nullptr;
  }
  if (old != nullptr) {
    old->Cancel();
  }
}

void PendingConnects::Close() {
  std::unordered_map<uint64_t, std::shared_ptr<PendingConnect>> all;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    all.swap(by_cookie_);
  }
  for (const auto& [cookie, pending] : all) {
    pending->Cancel();
  }
}

}  // namespace oakum::agent
