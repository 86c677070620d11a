// The process that holds an agent's sessions while there is no agent.
#ifndef OAKUM_AGENT_KEPT_KEEPER_H_
#define OAKUM_AGENT_KEPT_KEEPER_H_

#include <string>

#include "base/error.h"
#include "base/log.h"

namespace oakum::agent {

// How long a keeper lives that nobody has any use for.
enum class KeeperLife : bool {
  kWhileNeeded,  // until there is neither an agent nor anything that is kept
  kForEver,      // a service of its own
};

// Listens at `path` for one agent at a time, of root or of its own user, and keeps what it is
// handed. Drops what it keeps of containers that end while there is no agent. Reads nothing of a
// container, and has no privileges but to be there. Returns when its life ends, and upon SIGTERM:
// then what it kept is closed. Errors: EADDRINUSE when there is a keeper already; those of the
// calls.
[[nodiscard]] Expected<void> RunKeeper(const std::string& path, KeeperLife life, const Log& log);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEEPER_H_
