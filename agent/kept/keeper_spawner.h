// A process that starts keepers for an agent, which itself starts no program any more
// (GiveUpPrivileges).
#ifndef OAKUM_AGENT_KEPT_KEEPER_SPAWNER_H_
#define OAKUM_AGENT_KEPT_KEEPER_SPAWNER_H_

#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace oakum::agent {

inline constexpr char kSpawnerOption[] = "--spawner";

// The agent's end of it. Ends with this object, or with the agent.
class KeeperSpawner {
 public:
  // Starts it: this program with --keeper and kSpawnerOption, in a session of its own. Before
  // privileges are given up. Errors: socketpair(2)'s, posix_spawn(3)'s.
  [[nodiscard]] static Expected<KeeperSpawner> Start(const std::string& agent_socket);
  // Has it start a keeper, which ends at once where there is one. Errors: EPIPE when it is gone.
  [[nodiscard]] Expected<void> Spawn();

 private:
  explicit KeeperSpawner(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
};

// What that process does: a keeper for the agents with this socket, in a process of its own, for
// each byte that comes from the standard input, until its end. Has no privileges. Returns in the
// keepers as well. Errors: the keeper's.
[[nodiscard]] Expected<void> RunKeeperSpawner(const std::string& agent_socket, const Log& log);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEEPER_SPAWNER_H_
