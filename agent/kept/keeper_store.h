// A keeper process as a store of descriptors.
#ifndef OAKUM_AGENT_KEPT_KEEPER_STORE_H_
#define OAKUM_AGENT_KEPT_KEEPER_STORE_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "agent/kept/fd_store.h"
#include "agent/kept/keeper_spawner.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// A keeper that serves this agent, and what it has kept.
struct ServingKeeper {
  UniqueFd socket;
  std::vector<KeptItem> items;
};

// The keeper of agents with this socket, which somebody else has started. An agent that is ending
// has `patience` to be gone. Errors: ENOENT and ECONNREFUSED when there is none, and those below.
[[nodiscard]] Expected<ServingKeeper> FindKeeper(const std::string& agent_socket,
                                                 std::chrono::milliseconds patience);

// Takes what the keeper of agents with this socket has kept, and becomes the agent that it serves.
// Where there is no keeper, `spawner` starts one, and later another one in the place of
// one that is gone. An agent that is ending has `patience` to be gone. Errors: EADDRINUSE when
// another agent is served, ENOTSUP when the keeper speaks another version, EPERM when it is another
// user's, ETIMEDOUT, those of the calls.
[[nodiscard]] Expected<OpenedStore> OpenKeeperStore(const std::string& agent_socket,
                                                    std::shared_ptr<KeeperSpawner> spawner,
                                                    std::chrono::milliseconds patience);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEEPER_STORE_H_
