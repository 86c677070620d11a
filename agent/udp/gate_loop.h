// What happens at the gates of a container, on a worker's thread.
#ifndef OAKUM_AGENT_UDP_GATE_LOOP_H_
#define OAKUM_AGENT_UDP_GATE_LOOP_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "agent/dns/resolver.h"
#include "agent/proxy/carrier.h"
#include "agent/session/session_core.h"
#include "agent/udp/association.h"
#include "agent/udp/carried_sockets.h"

namespace oakum::agent {

// One gate as it was when a program last sent there: a new policy is a new value.
struct Gate {
  uint64_t id = 0;
  uint64_t netns = 0;
  std::shared_ptr<const UniqueFd> network;  // the namespace; no descriptor: the agent's own
  bool first_network = false;               // the one that the container was started in
  policy::Endpoint address;                 // its own, on loopback
  policy::Endpoint destination;             // what it stands for
  Judged judged;
};

// Makes non-blocking sockets (domain, type) in that network namespace.
using SocketMaker = std::function<UniqueFd(int domain, int type)>;
[[nodiscard]] SocketMaker MakerIn(std::shared_ptr<const UniqueFd> network);
// In whose network a proxy is spoken to for a socket of that namespace: "from". Credentials of the
// policy's own are only spoken on the agent's network unless the policy says otherwise, for a
// container may own its network and pretend to be the proxy.
[[nodiscard]] SocketMaker MakerFor(const policy::Proxy& proxy,
                                   const std::shared_ptr<const UniqueFd>& network);

// Whether no URL of the proxy carries datagrams, as far as is known: HTTP does not, nor does UDP
// ASSOCIATE by way of TLS, whose datagrams would be there for everybody to read.
[[nodiscard]] bool CarriesNoDatagrams(Upstreams& upstreams, const policy::Proxy& proxy);
inline constexpr char kNoDatagrams[] = "the proxy carries no datagrams";

// Everything but the constructor happens on the worker's thread.
class GateLoop : public std::enable_shared_from_this<GateLoop> {
 public:
  using Clock = std::chrono::steady_clock;
  // Whether the gate may be closed; `anyhow`: it is to be, whoever uses it.
  using Release = std::function<bool(const Gate& gate, bool anyhow)>;

  GateLoop(std::shared_ptr<ContainerCarrier> container, std::shared_ptr<CarriedSockets> sockets,
           EventLoop& loop);
  ~GateLoop();
  GateLoop(const GateLoop&) = delete;
  GateLoop& operator=(const GateLoop&) = delete;

  void SetRelease(Release release) { release_ = std::move(release); }
  void Add(std::shared_ptr<const Gate> gate, UniqueFd fd);
  void Update(std::shared_ptr<const Gate> gate);
  void Close(uint64_t id);

 private:
  struct Open {
    std::shared_ptr<const Gate> gate;
    UniqueFd fd;
  };
  // Who has sent a datagram.
  struct Client {
    uint64_t cookie = 0;
    std::shared_ptr<const DatagramCaller> caller;
    policy::Endpoint address;
  };
  // A named destination has an association of its own: whatever comes back there is from it, for
  // the address behind a name is the proxy's to know.
  struct AssociationKey {
    uint64_t cookie = 0;
    const policy::Proxy* proxy = nullptr;
    uint64_t named_gate = 0;  // 0: of all addresses
    auto operator<=>(const AssociationKey&) const = default;
  };
  struct Associated {
    std::unique_ptr<Association> association;
    std::shared_ptr<const policy::Policy> policy;  // keeps the key's proxy
    std::array<policy::Endpoint, 2> clients;       // where it gets IPv4's and IPv6's replies
    std::shared_ptr<const DatagramCaller> caller;
    std::shared_ptr<const Gate> gate;  // the one used last
    RelaySlot slot;
  };

  static constexpr size_t kMaxAssociations = 256;
  static constexpr int kMaxPerTurn = 32;
  static constexpr std::chrono::minutes kAssociationIdle{3};
  static constexpr std::chrono::seconds kSweepInterval{30};

  void Receive(uint64_t id);
  void Take(const Open& open, const policy::Endpoint& from, std::string_view data);
  void Resolve(const Gate& gate, const Client& client, std::string_view query);
  void Answered(uint64_t id, const Client& client, const DnsReply& reply);
  void Relay(const std::shared_ptr<const Gate>& gate, const Client& client, std::string_view data);
  // Null when the container has no slot left for one.
  Associated* Associate(const AssociationKey& key, const Gate& gate, const Client& client);
  void Deliver(const AssociationKey& key, const RelayedDatagram& datagram);
  void Ended(const AssociationKey& key, std::optional<ProxyFailure> failure);
  void Deny(const Gate& gate, const DatagramCaller& caller);
  void Report(const Gate& gate, const DatagramCaller& caller, const ProxyFailure& failure);
  void SendTo(const Open& open, const policy::Endpoint& client, std::string_view data);
  void Sweep();

  const std::shared_ptr<ContainerCarrier> container_;
  const std::shared_ptr<CarriedSockets> sockets_;
  EventLoop& loop_;
  Release release_;
  std::unordered_map<uint64_t, Open> gates_;
  std::map<std::pair<uint64_t, policy::Endpoint>, uint64_t> by_destination_;  // with its namespace
  std::map<AssociationKey, Associated> associations_;
  EventLoop::TimerId sweep_ = EventLoop::TimerId::kNone;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_GATE_LOOP_H_
