// Where the datagrams of a container go that are carried: sockets of the agent's on loopback, in
// the network namespace of the sending socket.
#ifndef OAKUM_AGENT_UDP_GATES_H_
#define OAKUM_AGENT_UDP_GATES_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "agent/calls/calls.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/kept_connection.h"
#include "agent/proxy/kept_names.h"
#include "agent/proxy/kept_sockets.h"
#include "agent/udp/carried_sockets.h"
#include "agent/udp/gate_loop.h"

namespace oakum::agent {

// A socket that sends or connects, and to what end.
struct DatagramRoute {
  const PinnedSocket& socket;
  policy::Endpoint destination;  // as the program asked for it
  const Judged& judged;          // carried by the resolver or by a proxy
  bool connects = false;         // connect(2): the socket keeps the gate for as long as it likes
};

// Of one container: one gate for each destination that is in use. Thread-safe. The gates close with
// this object.
class Gates {
 public:
  using Clock = std::chrono::steady_clock;

  // Null when there is no thread for them, or the container's sessions have ended. The next agent
  // finds who may use them in the container's kept_sockets().
  [[nodiscard]] static std::shared_ptr<Gates> Create(
      const std::shared_ptr<ContainerCarrier>& container, std::shared_ptr<CarriedSockets> sockets);
  ~Gates();
  Gates(const Gates&) = delete;
  Gates& operator=(const Gates&) = delete;

  // Makes `address`, in the family of the socket, that of the gate where the destination's
  // datagrams go, and remembers the socket as one that may use it. 0 or an errno value.
  [[nodiscard]] int Lead(const CallContext& context, const GuardedCall& call,
                         const DatagramRoute& route, SockaddrCopy& address);

  // Knows who was let send by an agent before this one; their events are that session's. Once.
  void KnowAgain(const std::shared_ptr<SessionCore>& core);
  // Goes on with a gate of such an agent's that sockets are connected to.
  [[nodiscard]] bool TakeUp(UniqueFd fd, const GateIdentity& identity, const Judged& judged,
                            KeptConnection kept);

 private:
  struct Key {
    uint64_t netns = 0;
    policy::Endpoint destination;
    policy::Carry carry = policy::Carry::kProxy;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    std::shared_ptr<const Gate> gate;
    Clock::time_point used;
    bool connected = false;
    RelaySlot slot;
    int fd = -1;          // the gate's, which the loop closes
    KeptConnection kept;  // from when somebody is connected to it
  };
  using Entries = std::map<Key, Entry>;

  // Beyond these, or when no slot is left, the one used longest ago is closed, one that nobody is
  // connected to if there is such.
  static constexpr size_t kMaxGates = 512;
  static constexpr std::chrono::minutes kIdle{5};
  static constexpr std::chrono::minutes kIdleResolver{10};

  Gates(const std::shared_ptr<ContainerCarrier>& container, std::shared_ptr<CarriedSockets> sockets,
        Worker& worker, std::shared_ptr<KeptSockets> kept);
  [[nodiscard]] int Open(const DatagramRoute& route, const Key& key, Entries::iterator& out);
  // Adds it. `gate` has no id or address yet.
  Entries::iterator Add(const Key& key, std::shared_ptr<Gate> gate, RelaySlot slot, UniqueFd fd);
  // So that a socket that is connected to it does not hear of this agent's end.
  void Keep(Entry& entry, const CallContext& context);
  [[nodiscard]] Expected<std::shared_ptr<const UniqueFd>> NetworkOfSocket(int socket_fd,
                                                                          uint64_t netns);
  // A slot for one more, perhaps that of another gate, which closes. Nothing when there is no
  // other.
  [[nodiscard]] std::optional<RelaySlot> MakeRoom(ContainerCarrier& container);
  // Forgets a gate that the loop wants to close; false when it is in use. `anyhow`: even so.
  bool Release(const Gate& gate, bool anyhow);
  void Post(std::function<void(GateLoop&)> job);

  const std::shared_ptr<CarriedSockets> sockets_;
  const std::shared_ptr<KeptSockets> kept_;  // may be null
  Carrier& carrier_;
  Worker& worker_;
  std::weak_ptr<ContainerCarrier> container_;
  std::shared_ptr<GateLoop> loop_;
  std::mutex mutex_;
  uint64_t next_id_ = 1;
  Entries entries_;
  std::map<uint64_t, std::weak_ptr<const UniqueFd>> networks_;
  bool known_again_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_GATES_H_
