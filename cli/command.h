// What the subcommands of `oakum` share.
#ifndef OAKUM_CLI_COMMAND_H_
#define OAKUM_CLI_COMMAND_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <ostream>
#include <string>

namespace oakum::cli {

// Exit statuses: oakum(1).
inline constexpr int kOk = 0;
inline constexpr int kFound = 1;  // the command did its work and found something wrong
inline constexpr int kUsage = 2;  // a bad command line, or the command could not do its work

struct Context {
  std::ostream& out;
  std::ostream& err;
  const char* config_variable = nullptr;  // the value of OAKUM_CONFIG; null when unset
  std::optional<std::string> proxy_variable = std::nullopt;  // the value of OAKUM_PROXY
  bool may_fork = false;  // this process has nothing but the command, and may return from it twice
  int status = kOk;       // set by the subcommand that ran

  // "oakum: what" on a line of its own.
  void Fail(int exit_status, const std::string& what) {
    err << "oakum: " << what << '\n';
    status = exit_status;
  }
};

// Adds a subcommand to the program; its callback works with `context`, which outlives the parse.
using AddCommand = void (*)(CLI::App& program, Context& context);

void AddDoctorCommand(CLI::App& program, Context& context);
void AddEventsCommand(CLI::App& program, Context& context);
void AddPolicyCommand(CLI::App& program, Context& context);
void AddPsCommand(CLI::App& program, Context& context);
void AddReportCommand(CLI::App& program, Context& context);
void AddRunCommand(CLI::App& program, Context& context);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_COMMAND_H_
