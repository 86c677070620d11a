// Two connected streams, and what goes between them.
#ifndef OAKUM_AGENT_PROXY_RELAY_H_
#define OAKUM_AGENT_PROXY_RELAY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/proxy/carrier.h"
#include "agent/proxy/dial.h"
#include "agent/proxy/kept_connection.h"
#include "agent/proxy/nursery.h"
#include "agent/proxy/pump.h"
#include "agent/proxy/relay_slots.h"
#include "agent/proxy/worker.h"
#include "base/unique_fd.h"
#include "policy/address.h"

namespace oakum::agent {

class SessionCore;

// Whose a relay is: what the next agent has to know to go on with it.
struct RelayOwner {
  std::shared_ptr<ContainerCarrier> container;
  std::weak_ptr<SessionCore> session;
  uint64_t client = 0;     // SO_COOKIE of the container's socket
  policy::Endpoint asked;  // what getpeername(2) says there
};

struct RelayRequest {
  RelaySlot slot;     // is given back at its end
  UniqueFd near;      // the container's side, prepared (PrepareRelayed)
  ProxyStream far;    // the proxy's, likewise
  std::string early;  // read from `near` already, still to be passed on: at most Pump::kMaxEarly
  Pump::Tap tap;      // is shown what comes from `near`
  std::string early_back = {};  // the same from `far`, any size
  bool shared = false;          // somebody else has copies of `near`
  // Called at the end: whether both ways have ended by themselves.
  std::function<void(bool in_order)> ended = {};
  RelayOwner owner;  // without a session: it is not kept
};

// One that is kept, by this agent or by one before it.
struct KeptRelay {
  KeptConnection kept;
  RelaySlot slot;
  UniqueFd near;
  ProxyStream far;
  Pipe out_pipe;  // from near to far
  Pipe in_pipe;
  RelayOwner owner;
};

// The place of a connection among those that are kept, once it has one.
[[nodiscard]] KeptRelays::Result KeepRelayAs(KeptConnection& kept, const RelayOwner& owner,
                                             int near_fd,
                                             const std::function<std::optional<KeptEnds>()>& ends);

// The last close(2) of a relayed socket sends RST (RFC 9293 section 3.10.4, ABORT), also that of a
// process that is killed; or FIN again.
void ResetOnClose(int socket_fd, bool reset);
// Sends RST at once, whoever else holds the socket.
void AbortRelayed(int socket_fd);

// Passes on what comes, ends (half-closes) and resets, each way on its own. Lives on one worker,
// which keeps it until both ways have ended. One that is kept outlives the agent (KeptConnection);
// any other is reset when the agent ends, however that comes: what its sides have got by then would
// else look like all there was.
class Relay : public std::enable_shared_from_this<Relay>, public Keepable {
 public:
  // On the thread of `worker`, both.
  static std::weak_ptr<Relay> Start(Worker& worker, RelayRequest request);
  static void GoOn(Worker& worker, KeptRelay kept);
  // Has the relay that there will be between these outlive the agent before there is one: fills in
  // all of `relay`, whose owner it has, but the descriptors and the slot. False when it is not
  // kept.
  [[nodiscard]] static bool KeepAhead(KeptRelay& relay, int near_fd, int far_fd);
  Relay(Worker& worker, RelayRequest request);
  Relay(Worker& worker, KeptRelay kept);
  ~Relay() override;
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  [[nodiscard]] bool KeepNow() override;
  // Resets both ways now.
  void Cut() { Reset(); }

 private:
  struct Side {
    ProxyStream stream;
    uint32_t watched = 0;  // 0: not in the loop
  };
  struct Way {
    std::unique_ptr<Pump> pump;
    bool ended = false;
    bool more = false;
  };

  // One turn of the ways that `events` of `side` let go on.
  void Ready(const Side& side, uint32_t events);
  void Turn(bool out, bool in);
  [[nodiscard]] bool Advance(Way& way);
  void Watch();
  void WatchSide(Side& side, uint32_t events);
  void End(bool in_order);
  void Reset();
  [[nodiscard]] KeptEnds Ends() const;

  Worker& worker_;
  RelaySlot slot_;
  Side near_;
  Side far_;
  Way out_;  // near to far
  Way in_;   // far to near
  RelayOwner owner_;
  KeptConnection kept_;
  std::function<void(bool in_order)> ended_;
  bool shared_ = false;  // somebody else may hold its sockets: closing them here does not end them
  EventLoop::TimerId again_ = EventLoop::TimerId::kNone;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_RELAY_H_
