// The control socket's language: one JSON object a line, one line in answer (docs/events.md).
#ifndef OAKUM_AGENT_CONTROL_H_
#define OAKUM_AGENT_CONTROL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "agent/agent_status.h"
#include "base/error.h"

namespace oakum::agent {

// A request beyond this is refused and its client closed.
inline constexpr size_t kMaxControlRequest = 4'096;
inline constexpr size_t kMaxControlClients = 32;

// "control.sock" beside the socket on which the agent listens for runtimes.
[[nodiscard]] std::string DefaultControlPath(const std::string& socket_path);

// What the socket is for: "status" and "ps" read, "reload" and "reopen" change something.
struct ControlActions {
  std::function<AgentStatus()> status;
  std::function<Expected<void>()> reload;  // the policy, and the event log as below
  std::function<void()> reopen;            // the event log
};

// Readers are members of the control group; root and the agent's own user may do everything.
enum class ControlRights : uint8_t { kRead, kAll };

// What is told of a name, an image or an id; the rest is cut off.
inline constexpr size_t kMaxControlText = 1'024;

// Answers one request; what is not known or not allowed gets {"ok": false, "error": ...}. The
// answer ends with a newline.
[[nodiscard]] std::string AnswerControl(std::string_view request, ControlRights rights,
                                        const ControlActions& actions);
[[nodiscard]] std::string ControlError(std::string_view what);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CONTROL_H_
