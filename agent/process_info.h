// Who made a call, for events.
#ifndef OAKUM_AGENT_PROCESS_INFO_H_
#define OAKUM_AGENT_PROCESS_INFO_H_

#include <memory>

#include "agent/event.h"

namespace oakum::agent {

// Reads /proc/TID of a thread that is waiting for its answer. Fields that cannot be read stay
// empty; null when the thread is gone. Check afterwards that the notification is still valid.
[[nodiscard]] std::shared_ptr<const ProcessInfo> ReadProcessInfo(pid_t tid);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROCESS_INFO_H_
