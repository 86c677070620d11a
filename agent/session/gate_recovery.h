// Datagram sockets that an agent before this one has carried.
#ifndef OAKUM_AGENT_SESSION_GATE_RECOVERY_H_
#define OAKUM_AGENT_SESSION_GATE_RECOVERY_H_

#include <cstdint>
#include <map>
#include <vector>

#include "agent/kept/fd_store.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/kept_names.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

// The gates that sockets are connected to, by session.
class KeptGates {
 public:
  // Takes them out of `items`.
  explicit KeptGates(std::vector<KeptItem>& items);

  // Goes on with those of a session, before it begins. One that the policy does not want any more
  // closes, and who is connected to it is told so (ECONNREFUSED). What a proxy had associated with
  // a socket is asked for again with its next datagram.
  void TakeUp(SessionCore& session, Carrier& carrier);
  // The others: their sessions have ended.
  void ForgetRest(KeptRelays& kept) const;

 private:
  struct One {
    std::string name;
    GateIdentity identity;
    UniqueFd fd;
  };
  std::map<uint64_t, std::vector<One>> of_session_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_GATE_RECOVERY_H_
