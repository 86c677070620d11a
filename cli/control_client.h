// Asking a running agent over its control socket.
#ifndef OAKUM_CLI_CONTROL_CLIENT_H_
#define OAKUM_CLI_CONTROL_CLIENT_H_

#include <optional>
#include <string>

#include "base/error.h"
#include "cli/command.h"
#include "oci/json.h"

namespace oakum::cli {

// Which agent a command is about: "--config" and "--control".
struct AgentChoice {
  std::optional<std::string> config;
  std::optional<std::string> control;
};
// Adds these options; `choice` outlives the command.
void AddAgentChoice(CLI::App& command, AgentChoice& choice);

// Where the control socket is: as it was named, else what the configuration says.
// Errors: those of the configuration.
[[nodiscard]] Expected<std::string> ControlPath(const AgentChoice& choice, const Context& context);

// Sends {"op": OP} and returns the answer. Errors: connect(2)'s, ETIMEDOUT after five seconds of
// silence, EREMOTEIO with the agent's own words when it says that something is wrong, EPROTO when
// the answer is none.
[[nodiscard]] Expected<oci::Json> AskAgent(const std::string& control_path, const std::string& op);

// The file to which the agent writes its events. Errors: AskAgent's; ENOENT when it writes to its
// standard output.
[[nodiscard]] Expected<std::string> EventsPath(const std::string& control_path);

// The event log that a command reads: `file` if it was named, else the running agent's. Errors:
// those of ControlPath and EventsPath.
[[nodiscard]] Expected<std::string> EventsFile(const std::optional<std::string>& file,
                                               const AgentChoice& choice, const Context& context);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_CONTROL_CLIENT_H_
