// Calls that an agent before this one had received when it ended.
#ifndef OAKUM_AGENT_SESSION_RECOVERY_H_
#define OAKUM_AGENT_SESSION_RECOVERY_H_

#include <optional>

#include "agent/calls/calls.h"

namespace oakum::agent {

// Goes on with `call`, which has a slot. What had been performed is answered with its result;
// what may have been is decided by what can be seen of the socket, so that nothing is done twice.
// Nothing: no more has been done than a new call may find, and it is to be handled like one.
[[nodiscard]] std::optional<Outcome> Recover(const CallContext& context, const GuardedCall& call);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_RECOVERY_H_
