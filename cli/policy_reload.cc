#include "cli/policy_reload.h"

#include <fmt/format.h>

#include <cerrno>
#include <memory>
#include <string>

#include "base/error.h"
#include "cli/control_client.h"

namespace oakum::cli {

namespace {

// Places in the policy are lines of their own, as `oakum policy check` has them; nothing else of
// the answer reaches a terminal.
std::string Lines(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    out += Escape(std::string_view(text).substr(at, end - at), text.size()) + "\n";
    at = end + 1;
  }
  return out;
}

void Run(const AgentChoice& agent, Context& context) {
  const auto control = ControlPath(agent, context);
  if (!control) {
    context.Fail(kUsage, control.error().what);
    return;
  }
  const auto answer = AskAgent(*control, "reload");
  if (!answer && answer.error().code == EREMOTEIO) {
    context.err << Lines(answer.error().what);
    context.status = kFound;
    return;
  }
  if (!answer) {
    context.Fail(kUsage, answer.error().what);
    return;
  }
  const oci::Json policy = answer->value("policy", oci::Json::object());
  const size_t count = policy.value("names", oci::Json::array()).size();
  context.out << fmt::format("{}: {} in force\n", Escape(policy.value("path", std::string())),
                             count == 1 ? "1 policy is" : fmt::format("{} policies are", count));
}

}  // namespace

void AddPolicyReload(CLI::App& parent, Context& context) {
  auto agent = std::make_shared<AgentChoice>();
  CLI::App* command = parent.add_subcommand(
      "reload", "Have the running agent read its policy again, and say what it does not take");
  AddAgentChoice(*command, *agent);
  command->callback([agent, &context] { Run(*agent, context); });
}

}  // namespace oakum::cli
