// What the agent says of itself: a snapshot for the control socket and the metrics.
#ifndef OAKUM_AGENT_AGENT_STATUS_H_
#define OAKUM_AGENT_AGENT_STATUS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/events/event_log.h"
#include "agent/listener.h"
#include "agent/session/session_manager.h"

namespace oakum::agent {

struct AgentStatus {
  std::string version;
  pid_t pid = 0;
  int64_t started_ns = 0;  // CLOCK_REALTIME, as are the other times
  std::string socket_path;
  std::string events_path;  // "-": the standard output
  std::string policy_path;
  uint64_t policy_generation = 1;  // grows with each policy that was taken
  int64_t policy_loaded_ns = 0;
  std::string policy_error;  // why the last reload was refused; empty when it was taken
  uint64_t reloads = 0;      // asked for
  uint64_t failed_reloads = 0;
  std::vector<std::string> policies;
  std::vector<SessionInfo> sessions;
  SessionTotals totals;
  ListenerCounts listener;
  EventLogStats events;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_AGENT_STATUS_H_
