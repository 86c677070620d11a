// oakum report.
#include <memory>
#include <optional>
#include <string>

#include "cli/command.h"
#include "cli/control_client.h"
#include "cli/event_record.h"
#include "cli/line_reader.h"
#include "cli/report.h"

namespace oakum::cli {

namespace {

constexpr size_t kDefaultTop = 50;

struct Options {
  std::optional<std::string> file;
  AgentChoice agent;
  std::string container;
  std::string format = "text";
  size_t top = kDefaultTop;
  bool fail_on_leak = false;
};

Expected<ReportSummary> Summarise(const std::string& file, const std::string& container) {
  auto reader = LineReader::Open(file);
  if (!reader) {
    return std::unexpected(std::move(reader.error()));
  }
  Report report;
  const auto take = [&](std::string_view line) {
    const auto event = ParseEventRecord(line);
    if (!event) {
      report.AddBrokenLine();
    } else if (MatchesContainer(*event, container)) {
      report.Add(*event);
    }
  };
  if (auto read = reader->Read(take); !read) {
    return std::unexpected(std::move(read.error()));
  }
  reader->Finish(take);
  return report.Summary();
}

void Run(const Options& options, Context& context) {
  const auto file = EventsFile(options.file, options.agent, context);
  if (!file) {
    context.Fail(kUsage, file.error().what);
    return;
  }
  const auto summary = Summarise(*file, options.container);
  if (!summary) {
    context.Fail(kUsage, summary.error().what);
    return;
  }
  context.out << (options.format == "json"       ? RenderJson(*summary)
                  : options.format == "markdown" ? RenderMarkdown(*summary, options.top)
                                                 : RenderText(*summary, options.top));
  if (options.fail_on_leak && summary->leaks != 0) {
    context.status = kFound;
  }
}

}  // namespace

void AddReportCommand(CLI::App& program, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("report", "Say which containers leaked, where to, and how often");
  command
      ->add_option("file", options->file,
                   "event log, - for the standard input; without it, the running agent's")
      ->type_name("FILE");
  command->add_option("--format", options->format, "text, json or markdown")
      ->check(CLI::IsMember({"text", "json", "markdown"}));
  command->add_option("--container", options->container, "only this one, by id or name");
  command->add_option("--top", options->top, "rows of a container that are shown (not in json)");
  command->add_flag("--fail-on-leak", options->fail_on_leak, "exit with 1 when there was a leak");
  AddAgentChoice(*command, options->agent);
  command->callback([options, &context] { Run(*options, context); });
}

}  // namespace oakum::cli
