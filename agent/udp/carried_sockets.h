// Which datagram sockets of a container are carried, and what the loopback addresses stand for that
// they really send to.
#ifndef OAKUM_AGENT_UDP_CARRIED_SOCKETS_H_
#define OAKUM_AGENT_UDP_CARRIED_SOCKETS_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "agent/calls/operation.h"
#include "agent/udp/received_message.h"
#include "policy/address.h"

namespace oakum::agent {

class SessionCore;

// Who made a socket one that is carried, for isolation and for events.
struct DatagramCaller {
  std::weak_ptr<SessionCore> core;
  GuardedCall call;
  pid_t tgid = 0;
  uint64_t start_time = 0;  // proc_pid_stat(5), field 22
};

// Of one container. Sockets are known by their cookies (SocketCookie()), network namespaces by
// theirs (socket(7), SO_NETNS_COOKIE). Thread-safe.
class CarriedSockets {
 public:
  using Clock = std::chrono::steady_clock;

  // Cheap and unlocked: whether no socket has ever been carried.
  [[nodiscard]] bool empty() const { return !any_.load(std::memory_order_acquire); }

  // From now on the socket, whose own port is `local_port`, may send to gates of that network
  // namespace.
  void Carry(uint64_t cookie, uint64_t netns, uint16_t local_port,
             std::shared_ptr<const DatagramCaller> caller);
  [[nodiscard]] bool IsCarried(uint64_t cookie) const;
  // The same, for that port; counts as use.
  [[nodiscard]] bool Renew(uint64_t cookie, uint64_t netns, uint16_t local_port);

  struct Sender {
    uint64_t cookie = 0;
    std::shared_ptr<const DatagramCaller> caller;
  };
  // The socket that was carried last with that port, which is how a gate knows who has sent;
  // nothing for somebody else's datagrams.
  [[nodiscard]] std::optional<Sender> FindSender(uint64_t netns, uint16_t port) const;

  // A gate: what is sent there is meant for `destination`. The meaning stays when the gate has been
  // closed, until the kernel gives its port to another one: what it sent may still be queued.
  void SetGate(uint64_t netns, const policy::Endpoint& gate, const policy::Endpoint& destination);
  // Whom a datagram is from that `socket` has got from the loopback address `from`; nothing when it
  // is not from a gate, or the socket is not carried.
  [[nodiscard]] std::optional<policy::Endpoint> Meaning(uint64_t cookie,
                                                        const policy::Endpoint& from) const;

  // A datagram that was taken from the socket for a caller who has left meanwhile. It is the next
  // that the socket gives. Bounded in number and time.
  void Keep(uint64_t cookie, ReceivedMessage message);
  // `peek`: it stays (recv(2), MSG_PEEK).
  [[nodiscard]] std::optional<ReceivedMessage> TakeKept(uint64_t cookie, bool peek);

 private:
  struct Socket {
    uint64_t cookie;
    uint64_t netns;
    uint16_t local_port;
    std::shared_ptr<const DatagramCaller> caller;
  };
  using Port = std::pair<uint64_t, uint16_t>;  // with its network namespace
  struct Kept {
    uint64_t cookie;
    Clock::time_point since;
    ReceivedMessage message;
  };
  using GateKey = std::pair<uint64_t, policy::Endpoint>;

  // The socket carried longest ago goes: its sender addresses show the gates.
  static constexpr size_t kMaxSockets = 16384;
  static constexpr size_t kMaxGates = 4096;
  static constexpr size_t kMaxKept = 64;
  static constexpr std::chrono::seconds kKeptFor{10};

  void Drop(std::list<Socket>::iterator socket);
  void DropExpired();

  std::atomic<bool> any_{false};
  std::atomic<size_t> kept_count_{0};
  mutable std::mutex mutex_;
  std::list<Socket> sockets_;  // the one carried last first
  std::unordered_map<uint64_t, std::list<Socket>::iterator> by_cookie_;
  std::map<Port, std::list<Socket>::iterator> by_port_;
  std::map<GateKey, policy::Endpoint> gates_;
  std::list<GateKey> gate_order_;  // the oldest first
  std::list<Kept> kept_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_CARRIED_SOCKETS_H_
