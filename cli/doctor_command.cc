// oakum doctor.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/run_program.h"
#include "cli/command.h"
#include "cli/control_client.h"
#include "cli/doctor.h"

namespace oakum::cli {

namespace {

struct Options {
  std::optional<std::string> config;
  std::string format = "text";
};

void Run(const Options& options, Context& context) {
  const DoctorWorld world{
      .root = {},
      .kernel = ProbeKernel(),
      .user = policy::OwnUser(),
      .run = RunProgram,
      .ask_agent = [](const std::string& control) { return AskAgent(control, "status"); }};
  const std::vector<Finding> findings =
      Doctor(world).Examine(policy::LoadConfig(options.config, context.config_variable));
  context.out << (options.format == "json" ? RenderJson(findings) : RenderText(findings));
  const bool wrong = std::ranges::any_of(
      findings, [](const Finding& finding) { return finding.severity == Severity::kError; });
  context.status = wrong ? kFound : kOk;
}

}  // namespace

void AddDoctorCommand(CLI::App& program, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "doctor", "Say what is wrong with the installation, and what to do about it");
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  command->add_option("--config", options->config, "configuration file")->type_name("FILE");
  command->callback([options, &context] { Run(*options, context); });
}

}  // namespace oakum::cli
