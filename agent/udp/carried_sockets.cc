#include "agent/udp/carried_sockets.h"

#include <algorithm>

namespace oakum::agent {

void CarriedSockets::Drop(std::list<Socket>::iterator socket) {
  const auto port = by_port_.find({socket->netns, socket->local_port});
  if (port != by_port_.end() && port->second == socket) {
    by_port_.erase(port);
  }
  by_cookie_.erase(socket->cookie);
  sockets_.erase(socket);
}

void CarriedSockets::Carry(uint64_t cookie, uint64_t netns, uint16_t local_port,
                           std::shared_ptr<const DatagramCaller> caller) {
  const std::lock_guard lock(mutex_);
  if (const auto found = by_cookie_.find(cookie); found != by_cookie_.end()) {
    Drop(found->second);
  }
  if (sockets_.size() == kMaxSockets) {
    Drop(std::prev(sockets_.end()));
  }
  sockets_.push_front({cookie, netns, local_port, std::move(caller)});
  by_cookie_.emplace(cookie, sockets_.begin());
  by_port_[{netns, local_port}] = sockets_.begin();
  any_.store(true, std::memory_order_release);
}

bool CarriedSockets::IsCarried(uint64_t cookie) const {
  const std::lock_guard lock(mutex_);
  return by_cookie_.contains(cookie);
}

bool CarriedSockets::Renew(uint64_t cookie, uint64_t netns, uint16_t local_port) {
  const std::lock_guard lock(mutex_);
  const auto found = by_cookie_.find(cookie);
  if (found == by_cookie_.end() || found->second->netns != netns ||
      found->second->local_port != local_port) {
    return false;
  }
  sockets_.splice(sockets_.begin(), sockets_, found->second);
  by_port_[{netns, local_port}] = found->second;
  return true;
}

std::optional<CarriedSockets::Sender> CarriedSockets::FindSender(uint64_t netns,
                                                                 uint16_t port) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_port_.find({netns, port});
  if (found == by_port_.end()) {
    return std::nullopt;
  }
  return Sender{found->second->cookie, found->second->caller};
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
