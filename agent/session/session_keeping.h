// From a session to what is kept of it, and back.
#ifndef OAKUM_AGENT_SESSION_SESSION_KEEPING_H_
#define OAKUM_AGENT_SESSION_SESSION_KEEPING_H_

#include <string>
#include <vector>

#include "agent/caller/container_view.h"
#include "agent/kept/fd_store.h"
#include "agent/kept/journal.h"
#include "agent/kept/kept_state.h"
#include "agent/session/notify_fd.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// How the next agent gets at a session.
struct KeptSession {
  std::string name;
  Journal journal;
  int64_t attached_ns = 0;  // CLOCK_REALTIME
};

// What is to be kept of a new session. `origin`, if there is one, is added to the state. Errors:
// Journal::Create's.
[[nodiscard]] Expected<KeptSession> MakeKept(KeptState state,
                                             const std::optional<ContainerOrigin>& origin);
// Hands a session's listener to `store`, with its state, the pidfd of the container's first
// process, the container's root and the names that it was told (-1: unknown). Errors: the store's.
[[nodiscard]] Expected<void> HandOver(FdStore& store, const KeptSession& kept, int listener_fd,
                                      int init_pidfd, int root_fd, int names_fd);

// A session that an earlier agent has kept.
struct AdoptedSession {
  NotifyFd notify;
  KeptSession kept;
  KeptState state;      // `container.init_pid` as it is now, 0 when that process has ended
  UniqueFd init_pidfd;  // invalid when unknown
  ContainerOrigin origin;
  UniqueFd names;  // NamesFile; invalid when unknown
};

// Errors: EINVAL when something is missing or damaged, ENOTSUP for another version.
[[nodiscard]] Expected<AdoptedSession> OpenKept(KeptItem item);
// Whether this agent knows the format of them all. Errors: ENOTSUP. Changes nothing.
[[nodiscard]] Expected<void> CheckVersions(const std::vector<KeptItem>& items);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_SESSION_KEEPING_H_
