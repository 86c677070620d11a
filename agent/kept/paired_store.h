// systemd's store for sessions, and a keeper for connections, which are too many and too short for
// it.
#ifndef OAKUM_AGENT_KEPT_PAIRED_STORE_H_
#define OAKUM_AGENT_KEPT_PAIRED_STORE_H_

#include <chrono>
#include <string>

#include "agent/kept/fd_store.h"
#include "base/error.h"

namespace oakum::agent {

// Where the keeper of connections is, as the packaged unit says: as for --keeper.
inline constexpr char kKeeperVariable[] = "OAKUM_KEEPER";

// `main`, as it was opened, keeps sessions, and connections while the keeper of agents with the
// socket `keeper_of` is missing, as it may be here. What that one has goes once `main` lets go of
// what it has (as systemd does when a service is stopped) and there is no agent: it keeps the
// reading end of a pipe in the place of listeners, and `main` the other one. An agent that is
// ending has `patience` to be gone. Errors: ENOTSUP when the keeper speaks another version; those
// of pipe(2) and `main`.
[[nodiscard]] Expected<OpenedStore> OpenPairedStore(OpenedStore main, const std::string& keeper_of,
                                                    std::chrono::milliseconds patience);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_PAIRED_STORE_H_
