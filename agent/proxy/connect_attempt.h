// What a connect(2) that is carried has to have, whoever brings it about: a call, or an agent that
// goes on with what another has begun.
#ifndef OAKUM_AGENT_PROXY_CONNECT_ATTEMPT_H_
#define OAKUM_AGENT_PROXY_CONNECT_ATTEMPT_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "agent/proxy/carried_connect.h"
#include "agent/proxy/held_connection.h"
#include "base/shortage.h"

namespace oakum::agent {

// What `attempt` returns once the agent has room for it, or in the end.
template <typename Attempt>
auto WhileShort(Attempt attempt) {
  ShortageWait room;
  auto result = attempt();
  while (!result && room.Again(result.error().code)) {
    result = attempt();
  }
  return result;
}

// One connect(2), as far as a session's thread takes it.
class ConnectAttempt {
 public:
  ConnectAttempt(const CallContext& context, const GuardedCall& call, CarriedConnect connect);
  ConnectAttempt(const ConnectAttempt&) = delete;
  ConnectAttempt& operator=(const ConnectAttempt&) = delete;

 protected:
  ~ConnectAttempt() = default;

  [[nodiscard]] Carrier& carrier() const { return carried_->carrier(); }
  [[nodiscard]] policy::Carry carry() const { return connect_.judged.decision.carry; }
  [[nodiscard]] const policy::Proxy& proxy() const { return *connect_.judged.decision.proxy; }

  [[nodiscard]] ProxyReport Report() const;
  [[nodiscard]] bool IsNameless() const;
  [[nodiscard]] bool IsInOwnNetwork() const;
  [[nodiscard]] ProxyTarget Target() const;
  void ReadCaller();
  [[nodiscard]] std::optional<Credentials> Isolate();
  // What each held connection wants; else why there is none.
  [[nodiscard]] std::optional<Outcome> GetReady(std::shared_ptr<UniqueFd>& shared_net,
                                                Worker*& worker);
  void Start(HeldConnection::Starter& starter, std::shared_ptr<PendingConnect> pending,
             HeldSocket held, KeptConnection kept);
  [[nodiscard]] HeldRequest Request(const std::shared_ptr<UniqueFd>& net);
  [[nodiscard]] Outcome Unreachable(const Error& error) const;

  const CallContext& context_;
  const GuardedCall& call_;
  CarriedConnect connect_;
  const std::shared_ptr<ContainerCarrier> carried_;
  const uint64_t cookie_;
  const uint64_t netns_;  // SO_NETNS_COOKIE, 0 where the kernel does not tell
  const bool blocking_;
  pid_t tgid_ = 0;
  RelaySlot slot_;
  std::optional<Credentials> credentials_;
  bool has_route_ = true;

 private:
  void FillIn(HeldRequest& request, const std::shared_ptr<UniqueFd>& net);
  // Whether the agent's own socket towards the proxy is one of the container's network namespace.
  [[nodiscard]] bool FromContainer(int net_fd) const;
  // Whether the container's network reaches the first URL. Where that cannot be seen it does:
  // nothing goes out of another network for want of a descriptor.
  [[nodiscard]] bool HasRoute(int net_fd) const;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CONNECT_ATTEMPT_H_
