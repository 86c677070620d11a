// oakum ps.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/command.h"
#include "cli/control_client.h"

namespace oakum::cli {

namespace {

using oci::Json;

constexpr std::array kHeads = {"CONTAINER",  "NAME",   "POLICY", "MODE",   "PID",  "CALLS",
                               "REDIRECTED", "DENIED", "LEAKS",  "FILTER", "SINCE"};
constexpr std::array kKeys = {"container_id", "name",         "policy",     "mode",
                              "init_pid",     "calls",        "redirected", "denied",
                              "leaks",        "stale_filter", "attached"};

struct Options {
  AgentChoice agent;
  std::string format = "text";
};

std::string Cell(const Json& session, const char* key) {
  const auto found = session.find(key);
  if (found == session.end()) {
    return "-";
  }
  if (found->is_array()) {
    return found->empty() ? "current" : "stale";
  }
  if (found->is_null()) {
    return "-";
  }
  const std::string text = found->is_string() ? found->get<std::string>() : found->dump();
  return text.empty() ? "-" : Escape(text.substr(0, text.find('.')), 64);
}

std::string Table(const Json& sessions) {
  std::vector<std::array<std::string, kHeads.size()>> rows(1);
  std::ranges::copy(kHeads, rows[0].begin());
  for (const Json& session : sessions) {
    auto& row = rows.emplace_back();
    for (size_t i = 0; i < kKeys.size(); ++i) {
      row[i] = Cell(session, kKeys[i]);
    }
    row[0] = row[0].substr(0, 12);
  }
  std::array<size_t, kHeads.size()> widths{};
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      out += fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    out += row.back() + "\n";
  }
  return out;
}

void Run(const Options& options, Context& context) {
  const auto control = ControlPath(options.agent, context);
  if (!control) {
    context.Fail(kUsage, control.error().what);
    return;
  }
  const auto answer = AskAgent(*control, "ps");
  if (!answer) {
    context.Fail(kUsage, answer.error().what);
    return;
  }
  const Json sessions = answer->value("sessions", Json::array());
  context.out << (options.format == "json" ? sessions.dump(2) + "\n" : Table(sessions));
}

}  // namespace

void AddPsCommand(CLI::App& program, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("ps", "List the containers that the agent guards");
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  AddAgentChoice(*command, options->agent);
  command->callback([options, &context] { Run(*options, context); });
}

}  // namespace oakum::cli
