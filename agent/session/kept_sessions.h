// Which sessions the store has, and which it is still to be handed.
#ifndef OAKUM_AGENT_SESSION_KEPT_SESSIONS_H_
#define OAKUM_AGENT_SESSION_KEPT_SESSIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "agent/events/event.h"
#include "agent/kept/fd_store.h"
#include "agent/session/container_parts.h"
#include "agent/session/session_core.h"
#include "agent/session/session_keeping.h"
#include "base/error.h"
#include "base/log.h"
#include "oci/container_state.h"

namespace oakum::agent {

// Not thread-safe.
class KeptSessions {
 public:
  // Both outlive it. `store` null: nothing is kept.
  KeptSessions(FdStore* store, const Log& log) : store_(store), log_(log) {}

  // Of the session that will have that number. One that is not kept goes on all the same, as long
  // as this agent lives.
  [[nodiscard]] std::optional<KeptSession> Keep(uint64_t number,
                                                const oci::ContainerProcessState& state,
                                                const EventSource& source, int listener_fd,
                                                int init_pidfd, const ContainerParts& parts);
  void Forget(const SessionCore& core);
  // What cannot be gone on with is forgotten, unless that is for want of room.
  void NotAdopted(const std::string& name, const Error& error);

  // The session is to be handed over again.
  void KeepAgain(uint64_t number) { to_keep_.insert(number); }
  // Hands over what is to be, until the store takes no more. `find` returns null for a session that
  // has ended. Returns how many are left.
  size_t KeepRest(const std::function<const SessionCore*(uint64_t)>& find);
  [[nodiscard]] bool left() const { return !to_keep_.empty(); }

 private:
  // True when there is nothing to hand over, too.
  [[nodiscard]] bool HandOverAgain(const SessionCore& core) const;

  FdStore* const store_;
  const Log& log_;
  std::set<uint64_t> to_keep_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_KEPT_SESSIONS_H_
