// From a held socket to a relay: what happens on a worker between connect(2) of a container's
// socket and the first byte.
#ifndef OAKUM_AGENT_PROXY_HELD_CONNECTION_H_
#define OAKUM_AGENT_PROXY_HELD_CONNECTION_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/caller/sockaddr.h"
#include "agent/dns/resolver.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/dial.h"
#include "agent/proxy/held_socket.h"
#include "agent/proxy/nursery.h"
#include "agent/proxy/pending_connect.h"
#include "agent/proxy/proxy_report.h"
#include "agent/proxy/relay.h"
#include "policy/policy.h"

namespace oakum::agent {

// The container's socket, to be found again if nobody holds it.
struct HeldClient {
  pid_t tgid = 0;
  int number = -1;       // of its descriptor, when it called connect(2)
  uint64_t cookie = 0;   // what tells that it is still the same
  bool waits = false;    // in connect(2), which the next agent finds in the journal
  SockaddrCopy address;  // its own
};

// What the container's socket is connected to meanwhile.
struct HeldEnd {
  std::shared_ptr<PendingConnect> pending;
  HeldSocket held;
  HeldClient client;
  ProxyReport report;
  KeptConnection kept;
};

// Keeps one whose container's socket is connecting, or about to.
[[nodiscard]] KeptRelays::Result KeepHeld(KeptConnection& kept, ContainerCarrier& container,
                                          const std::weak_ptr<SessionCore>& session,
                                          const HeldSocket& held, const HeldClient& client,
                                          const policy::Endpoint& asked);

struct HeldRequest {
  std::shared_ptr<ContainerCarrier> container;
  std::shared_ptr<const policy::Policy> policy;
  RelaySlot slot;
  policy::Carry carry = policy::Carry::kProxy;
  DialRequest dial;  // kProxy; kChecked: without target
  DnsContext dns;    // kResolver
  // kChecked in audit: connected to what the program asked for, as it would have been itself, and
  // listened to. Makes the socket for that.
  std::function<UniqueFd(int domain)> make_far;
  policy::Endpoint asked;
};

// One of a socket in non-blocking mode that is kept outlives the agent: the next one asks the proxy
// anew. From before that socket is connected the relay is kept in its place.
class HeldConnection : public std::enable_shared_from_this<HeldConnection>, public Keepable {
 public:
  // The same, for whoever has started it on another thread.
  class Starter;

  HeldConnection(Worker& worker, HeldRequest request);
  ~HeldConnection() override;
  HeldConnection(const HeldConnection&) = delete;
  HeldConnection& operator=(const HeldConnection&) = delete;

  [[nodiscard]] bool KeepNow() override;

 private:
  // The proxy is asked, while the container's socket is still on its way to `end_`.
  void Begin();
  void Hold(HeldEnd end);
  void Dialed(DialResult result);
  void GoOn(DialResult result);
  void ConnectFar();
  void FarConnected(int error);
  // Lets the container's socket be connected; then goes on with Established().
  void Complete();
  void Completed(int error);
  void Established();
  void Fail(int error);
  [[nodiscard]] RelayOwner Owner() const;
  // Has the relay that there will be outlive the agent.
  void KeepRelay();
  // It is not held any more, nor will there be a relay.
  void Unkeep();
  // Nothing of it is needed any more.
  void Leave();

  Worker& worker_;
  HeldRequest request_;
  std::optional<HeldEnd> end_;        // once the container's socket is connecting to it
  std::optional<DialResult> result_;  // that came before
  std::unique_ptr<Dial> dial_;
  std::optional<DialRequest> next_;  // to be made ready when this one is done
  ProxyStream far_;
  bool watching_ = false;
  bool watching_far_ = false;
  std::optional<KeptRelay> relay_;  // that is kept already
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
};

// Starts one on its worker, which keeps it. Holds it to its end or gives it up.
class HeldConnection::Starter {
 public:
  // kProxy: dials at once, so that this goes on while the container's socket is seen to.
  Starter(Worker& worker, HeldRequest request);
  // Gives it up, unless there was an end.
  ~Starter();
  Starter(const Starter&) = delete;
  Starter& operator=(const Starter&) = delete;

  void Hold(HeldEnd end);

 private:
  Worker& worker_;
  std::weak_ptr<HeldConnection> connection_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HELD_CONNECTION_H_
