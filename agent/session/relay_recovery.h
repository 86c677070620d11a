// Connections through proxies that an agent before this one has kept.
#ifndef OAKUM_AGENT_SESSION_RELAY_RECOVERY_H_
#define OAKUM_AGENT_SESSION_RELAY_RECOVERY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "agent/kept/fd_store.h"
#include "agent/proxy/aside.h"
#include "agent/proxy/carrier.h"
#include "agent/session/session_core.h"
#include "base/log.h"
#include "policy/address.h"

namespace oakum::agent {

// The session that was kept under a name with that number (SessionOfName()); null: there is none.
using FindSession = std::function<std::shared_ptr<SessionCore>(uint64_t session)>;

// What the sockets of sessions asked for whose relays are among `items`.
class KeptPeers {
 public:
  explicit KeptPeers(const std::vector<KeptItem>& items);
  // Has the session's container know it: before the session begins, for they may ask at once.
  void Remember(const SessionCore& session) const;

 private:
  std::map<uint64_t, std::vector<std::pair<uint64_t, policy::Endpoint>>> of_session_;
};

// Goes on with those of `items` that are relays, and says how many; the others are left alone.
// Whatever cannot be gone on with is reset, and the store forgets it. `aside` ends before `carrier`
// does.
void GoOnWithRelays(std::vector<KeptItem>& items, const FindSession& find, Carrier& carrier,
                    Aside& aside, const Log& log);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_RELAY_RECOVERY_H_
