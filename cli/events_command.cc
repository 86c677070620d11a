// oakum events.
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"
#include "cli/command.h"
#include "cli/control_client.h"
#include "cli/event_record.h"
#include "cli/line_reader.h"

namespace oakum::cli {

namespace {

// How often a followed file is looked at.
constexpr std::chrono::milliseconds kFollowInterval(200);

struct Options {
  std::optional<std::string> file;
  AgentChoice agent;
  std::string container;
  std::string verdict;
  std::string format = "text";
  bool leaks = false;
  bool follow = false;
};

class Printer {
 public:
  Printer(const Options& options, Context& context) : options_(options), context_(context) {}

  void operator()(std::string_view line) {
    const auto event = ParseEventRecord(line);
    if (!event) {
      ++broken_;
      return;
    }
    if (!MatchesContainer(*event, options_.container) ||
        (!options_.verdict.empty() && event->verdict != options_.verdict) ||
        (options_.leaks && !event->leak)) {
      return;
    }
    if (options_.format == "json") {
      context_.out << line << '\n';
    } else {
      context_.out << EventText(*event) << '\n';
    }
  }
  // Says how many lines were no events.
  void Finish() {
    if (broken_ != 0) {
      context_.err << fmt::format("oakum: {} {} no event\n", broken_,
                                  broken_ == 1 ? "line is" : "lines are");
    }
  }

 private:
  const Options& options_;
  Context& context_;
  uint64_t broken_ = 0;
};

// Ends when nobody reads the output any more; SIGINT ends the program.
Expected<void> Follow(LineReader& reader, Printer& printer, Context& context) {
  const auto take = [&](std::string_view line) { printer(line); };
  if (auto skipped = reader.SkipToEnd(); !skipped) {
    return skipped;
  }
  while (context.out.flush()) {
    std::this_thread::sleep_for(kFollowInterval);
    if (auto read = reader.Read(take); !read) {
      return read;
    }
    if (auto renamed = reader.FollowRename(take); !renamed) {
      return renamed;
    }
  }
  return {};
}

Expected<void> Print(const std::string& file, const Options& options, Context& context) {
  auto reader = LineReader::Open(file);
  if (!reader) {
    return std::unexpected(std::move(reader.error()));
  }
  Printer printer(options, context);
  if (options.follow) {
    return Follow(*reader, printer, context);
  }
  const auto take = [&](std::string_view line) { printer(line); };
  if (auto read = reader->Read(take); !read) {
    return read;
  }
  reader->Finish(take);
  printer.Finish();
  return {};
}

void Run(const Options& options, Context& context) {
  const auto file = EventsFile(options.file, options.agent, context);
  if (!file) {
    context.Fail(kUsage, file.error().what);
    return;
  }
  if (const auto printed = Print(*file, options, context); !printed) {
    context.Fail(kUsage, printed.error().what);
  }
}

}  // namespace

void AddEventsCommand(CLI::App& program, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("events", "Show events, past ones or as they come");
  command
      ->add_option("file", options->file,
                   "event log, - for the standard input; without it, the running agent's")
      ->type_name("FILE");
  command->add_flag("--follow,-f", options->follow, "show new events as they come, until SIGINT");
  command->add_option("--container", options->container, "only this one, by id or name");
  command->add_option("--verdict", options->verdict, "allow, audit, deny, redirect or kill")
      ->check(CLI::IsMember({"allow", "audit", "deny", "redirect", "kill"}));
  command->add_flag("--leaks", options->leaks, "only leaks");
  command->add_option("--format", options->format, "text, or json: the lines as they are")
      ->check(CLI::IsMember({"text", "json"}));
  AddAgentChoice(*command, options->agent);
  command->callback([options, &context] { Run(*options, context); });
}

}  // namespace oakum::cli
