// One connection that is kept for the next agent.
#ifndef OAKUM_AGENT_PROXY_KEPT_CONNECTION_H_
#define OAKUM_AGENT_PROXY_KEPT_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/proxy/carrier.h"
#include "agent/proxy/kept_relays.h"
#include "agent/proxy/relay_slots.h"

namespace oakum::agent {

class SessionCore;

// Its place among all of them. When this goes the next agent has it, unless it was forgotten.
// The KeptRelays outlives it.
class KeptConnection {
 public:
  KeptConnection() = default;
  // One that the store has already.
  KeptConnection(KeptRelays& all, std::string name, RelaySlot slot);
  KeptConnection(KeptConnection&& other) noexcept;
  KeptConnection& operator=(KeptConnection&& other) noexcept;
  ~KeptConnection();
  explicit operator bool() const { return all_ != nullptr; }

  // By a name that `name` makes of the number of its session (SessionOfName()). What `ends` returns
  // stays open until this goes; nothing: kLater. Neither is asked when there is one already, none
  // may be kept, or the session is not kept: kNever.
  [[nodiscard]] KeptRelays::Result Keep(ContainerCarrier& container,
                                        const std::weak_ptr<SessionCore>& session,
                                        const std::function<std::string(uint64_t)>& name,
                                        const std::function<std::optional<KeptEnds>()>& ends);
  // It has ended.
  void Forget();

 private:
  KeptRelays* all_ = nullptr;  // null: it is not kept
  std::string name_;
  RelaySlot slot_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_KEPT_CONNECTION_H_
