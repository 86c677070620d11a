// The descriptor store of the service manager.
#ifndef OAKUM_AGENT_KEPT_SYSTEMD_STORE_H_
#define OAKUM_AGENT_KEPT_SYSTEMD_STORE_H_

#include <optional>

#include "agent/kept/fd_store.h"
#include "base/error.h"

namespace oakum::agent {

// Nothing when this process is not a service of systemd's: NOTIFY_SOCKET and INVOCATION_ID
// (systemd.exec(5)); other supervisors set the first alone. Takes what was kept for it
// (sd_listen_fds_with_names(3)) and removes LISTEN_* from the environment: to be called once,
// before any thread is started. What is kept stays so over restarts as far as the unit's
// FileDescriptorStoreMax= allows (systemd.service(5)). Errors: sd_listen_fds(3)'s.
[[nodiscard]] Expected<std::optional<OpenedStore>> OpenSystemdStore();

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_SYSTEMD_STORE_H_
