// Connections that sockets of a container wait for.
#ifndef OAKUM_AGENT_PROXY_PENDING_CONNECT_H_
#define OAKUM_AGENT_PROXY_PENDING_CONNECT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "agent/caller/sockaddr.h"

namespace oakum::agent {

// One of them: shared by the connect(2) that waits, if one does, and by the worker that brings it
// about. Thread-safe.
class PendingConnect {
 public:
  PendingConnect(uint64_t cookie, const SockaddrCopy& address)
      : cookie_(cookie), address_(address) {}

  [[nodiscard]] uint64_t cookie() const { return cookie_; }
  // What the container's socket is being connected to.
  [[nodiscard]] const SockaddrCopy& address() const { return address_; }

  // A call waits, and holds the container's socket: `socket_fd` stays open until it leaves.
  void Enter(int socket_fd);
  void Leave(int socket_fd);
  // It has failed: what those who wait are told once their socket has left SYN_SENT.
  void Fail(int error);
  // Has it leave that (connect(2), AF_UNSPEC), which wakes them. May wait for the container, which
  // can have the socket's lock held. False when nobody waits.
  [[nodiscard]] bool Reset();
  // 0 as long as it has not failed.
  [[nodiscard]] int error() const;

  // What ends it before its time; runs at once if it has been cancelled already.
  void SetCancel(std::function<void()> cancel);
  void Cancel();

 private:
  const uint64_t cookie_;
  const SockaddrCopy address_;
  mutable std::mutex mutex_;
  std::vector<int> waiting_fds_;
  int error_ = 0;
  bool cancelled_ = false;
  std::function<void()> cancel_;
};

// Those of one container, by the cookie of the socket (socket(7), SO_COOKIE). Thread-safe.
class PendingConnects {
 public:
  static constexpr size_t kMax = 8192;

  [[nodiscard]] std::shared_ptr<PendingConnect> Find(uint64_t cookie) const;
  // Null beyond kMax. What was there for the socket is cancelled.
  [[nodiscard]] std::shared_ptr<PendingConnect> Add(uint64_t cookie, const SockaddrCopy& address);
  void Remove(const PendingConnect& pending);
  // Cancels what is there for the socket.
  void Drop(uint64_t cookie);
  // All of them, and those to come.
  void Close();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, std::shared_ptr<PendingConnect>> by_cookie_;
  bool closed_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PENDING_CONNECT_H_
