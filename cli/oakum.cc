#include "cli/oakum.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::cli {

namespace {

// A new subcommand is a new line here.
constexpr std::array<AddCommand, 6> kCommands = {AddDoctorCommand, AddEventsCommand,
                                                 AddPolicyCommand, AddPsCommand,
                                                 AddReportCommand, AddRunCommand};

// The command that help and errors are about: the innermost one that was named.
const CLI::App& Innermost(const CLI::App& program) {
  const CLI::App* app = &program;
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
  }
  return *app;
}

// What is wrong with the words that should name subcommands; CLI11 only says that one is missing.
std::string UnknownCommand(const CLI::App& program, int argc, const char* const* argv) {
  const CLI::App* app = &program;
  for (int i = 1; i < argc && app->get_require_subcommand_min() > 0; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with('-')) {
      break;
    }
    std::vector<std::string_view> known;
    const CLI::App* next = nullptr;
    for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; })) {
      known.emplace_back(command->get_name());
      next = command->get_name() == word ? command : next;
    }
    if (next == nullptr) {
      return "unknown command \"" + Escape(word) + "\"" + policy::DidYouMean(word, known);
    }
    app = next;
  }
  return {};
}

std::string FullName(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : FullName(*app.get_parent()) + " " + app.get_name();
}

}  // namespace

int RunOakum(int argc, const char* const* argv, Context& context) {
  CLI::App program("Sees what containers send around their proxy, and stops it.", "oakum");
  program.set_version_flag("--version", std::string("oakum ") + OAKUM_VERSION);
  program.require_subcommand(1);
  for (const AddCommand add : kCommands) {
    add(program, context);
  }
  if (const std::string what = UnknownCommand(program, argc, argv); !what.empty()) {
    context.Fail(kUsage, what);
    return context.status;
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const CLI::App* parent = Innermost(program).get_parent();
    context.out << Innermost(program).help(parent == nullptr ? "" : FullName(*parent));
    return kOk;
  } catch (const CLI::CallForVersion& version) {
    context.out << version.what() << '\n';
    return kOk;
  } catch (const CLI::ParseError& error) {
    std::string what = error.what();
    std::replace(what.begin(), what.end(), '\n', ' ');
    const std::string name = FullName(Innermost(program));
    context.err << name << ": " << Escape(what, 1024) << "; see " << name << " --help\n";
    return kUsage;
  }
  return context.status;
}

}  // namespace oakum::cli
