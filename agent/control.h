// The control socket's language: one JSON object a line, one line in answer (docs/events.md).
#ifndef OAKUM_AGENT_CONTROL_H_
#define OAKUM_AGENT_CONTROL_H_

#include <functional>
#include <string>
#include <string_view>

#include "agent/agent_status.h"

namespace oakum::agent {

// A request beyond this is refused and its client closed.
inline constexpr size_t kMaxControlRequest = 4'096;
inline constexpr size_t kMaxControlClients = 32;

// "control.sock" beside the socket on which the agent listens for runtimes.
[[nodiscard]] std::string DefaultControlPath(const std::string& socket_path);

// Answers {"op": "status"} and {"op": "ps"}; anything else gets {"ok": false, "error": ...}. The
// answer ends with a newline.
[[nodiscard]] std::string AnswerControl(std::string_view request,
                                        const std::function<AgentStatus()>& status);
[[nodiscard]] std::string ControlError(std::string_view what);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CONTROL_H_
