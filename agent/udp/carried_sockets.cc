#include "agent/udp/carried_sockets.h"

#include <algorithm>

namespace oakum::agent {

void CarriedSockets::Drop(std::list<Socket>::iterator socket) {
  const auto port = by_port_.find({socket->netns, socket->v6, socket->local_port});
  if (port != by_port_.end() && port->second == socket->cookie) {
    by_port_.erase(port);
  }
  by_cookie_.erase(socket->cookie);
  sockets_.erase(socket);
}

void CarriedSockets::Carry(uint64_t cookie, uint64_t netns, bool v6, uint16_t local_port) {
  const std::lock_guard lock(mutex_);
  if (const auto found = by_cookie_.find(cookie); found != by_cookie_.end()) {
    Socket& known = *found->second;
    if (known.netns == netns && known.v6 == v6 && known.local_port == local_port) {
      sockets_.splice(sockets_.begin(), sockets_, found->second);
      by_port_[{netns, v6, local_port}] = cookie;
      return;
    }
    Drop(found->second);
  }
  if (sockets_.size() == kMaxSockets) {
    Drop(std::prev(sockets_.end()));
  }
  sockets_.push_front({cookie, netns, v6, local_port});
  by_cookie_.emplace(cookie, sockets_.begin());
  by_port_[{netns, v6, local_port}] = cookie;
  any_.store(true, std::memory_order_release);
}

bool CarriedSockets::IsCarried(uint64_t cookie) const {
  const std::lock_guard lock(mutex_);
  return by_cookie_.contains(cookie);
}

std::optional<uint64_t> CarriedSockets::Sender(uint64_t netns, bool v6, uint16_t port) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_port_.find({netns, v6, port});
  return found != by_port_.end() ? std::optional(found->second) : std::nullopt;
}

void CarriedSockets::SetGate(uint64_t netns, const policy::Endpoint& gate,
                             const policy::Endpoint& destination) {
  const std::lock_guard lock(mutex_);
  const GateKey key{netns, gate};
  if (!gates_.insert_or_assign(key, destination).second) {
    std::erase(gate_order_, key);
  }
  gate_order_.push_back(key);
  if (gate_order_.size() > kMaxGates) {
    gates_.erase(gate_order_.front());
    gate_order_.pop_front();
  }
}

std::optional<policy::Endpoint> CarriedSockets::Meaning(uint64_t cookie,
                                                        const policy::Endpoint& from) const {
  const std::lock_guard lock(mutex_);
  const auto socket = by_cookie_.find(cookie);
  if (socket == by_cookie_.end()) {
    return std::nullopt;
  }
  const auto gate = gates_.find({socket->second->netns, from});
  return gate != gates_.end() ? std::optional(gate->second) : std::nullopt;
}

void CarriedSockets::DropExpired() {
  const Clock::time_point now = Clock::now();
  while (!kept_.empty() && (kept_.size() > kMaxKept || now - kept_.front().since > kKeptFor)) {
    kept_.pop_front();
  }
  kept_count_.store(kept_.size(), std::memory_order_release);
}

void CarriedSockets::Keep(uint64_t cookie, ReceivedMessage message) {
  const std::lock_guard lock(mutex_);
  kept_.push_back({cookie, Clock::now(), std::move(message)});
  DropExpired();
}

std::optional<ReceivedMessage> CarriedSockets::TakeKept(uint64_t cookie, bool peek) {
  if (kept_count_.load(std::memory_order_acquire) == 0) {
    return std::nullopt;
  }
  const std::lock_guard lock(mutex_);
  DropExpired();
  const auto found = std::ranges::find(kept_, cookie, &Kept::cookie);
  if (found == kept_.end()) {
    return std::nullopt;
  }
  if (peek) {
    return found->message;
  }
  std::optional<ReceivedMessage> message(std::move(found->message));
  kept_.erase(found);
  kept_count_.store(kept_.size(), std::memory_order_release);
  return message;
}

}  // namespace oakum::agent
