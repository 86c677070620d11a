// A process that starts others for an agent, which itself starts no program any more
// (GiveUpPrivileges).
#ifndef OAKUM_AGENT_KEPT_KEEPER_SPAWNER_H_
#define OAKUM_AGENT_KEPT_KEEPER_SPAWNER_H_

#include <functional>
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
  // Has it start a process that speaks TLS with proxies for whoever has the other end of `line_fd`
  // (agent/proxy/tls_process.h). Thread-safe. Errors: as above, sendmsg(2)'s.
  [[nodiscard]] Expected<void> SpawnTls(int line_fd) const;

 private:
  explicit KeeperSpawner(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
};

// What a process does with such a line, to its end.
using ServeTls = std::function<Expected<void>(UniqueFd line)>;

// What that process does, until the end of its standard input: starts a process for each byte that
// comes from there, a keeper for the agents with this socket or, with a descriptor, one that
// serves it by `serve_tls`. Has no privileges. Returns in those processes as well. Errors: theirs.
[[nodiscard]] Expected<void> RunKeeperSpawner(const std::string& agent_socket,
                                              const ServeTls& serve_tls, const Log& log);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEEPER_SPAWNER_H_
