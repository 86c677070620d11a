// What a container chooses of an event (names, arguments, paths), through the line and back through
// the reader of `oakum report`. The input is cut into texts at its 0xff bytes.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "agent/events/event_json.h"
#include "cli/event_record.h"
#include "cli/report.h"

namespace {

using oakum::agent::Event;
using oakum::agent::EventSerializer;
using oakum::agent::EventSource;
using oakum::agent::ProcessInfo;

// Gives one text after the other.
class Texts {
 public:
  explicit Texts(std::string_view rest) : rest_(rest) {}
  std::string Next() {
    const size_t end = rest_.find('\xff');
    const std::string text(rest_.substr(0, end));
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    return text;
  }

 private:
  std::string_view rest_;
};

Event MakeEvent(std::string_view input) {
  Texts texts(input);
  auto source = std::make_shared<EventSource>();
  source->container_id = texts.Next();
  source->facts.name = texts.Next();
  source->facts.image = texts.Next();
  source->facts.ns = texts.Next();
  source->facts.pod = texts.Next();
  auto process = std::make_shared<ProcessInfo>();
  process->executable = texts.Next();
  process->name = texts.Next();
  process->command_line = texts.Next();
  Event event;
  event.time_ns = 1;
  event.family = Event::Family::kUnix;
  event.unix_name = texts.Next();
  event.detail = texts.Next();
  const auto rule = std::make_shared<const std::string>(texts.Next());
  event.rule = *rule;
  event.rule_of = rule;
  event.leak = true;
  event.process = std::move(process);
  event.source_of = std::move(source);
  return event;
}

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

// Neither ends a line nor speaks to a terminal.
bool IsHarmless(std::string_view text, std::string_view allowed) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 || byte == 0x7f) && !allowed.contains(c)) {
      return false;
    }
  }
  return !text.contains("\u0085") && !text.contains("\u009b");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  std::string line;
  EventSerializer().Append(MakeEvent(input), {}, line);
  Demand(line.find('\n') == line.size() - 1);
  line.pop_back();
  Demand(IsHarmless(line, ""));
  Demand(nlohmann::json::accept(line));
  const auto record = oakum::cli::ParseEventRecord(line);
  Demand(record && record->leak && record->StandsFor() == 1);
  Demand(IsHarmless(oakum::cli::EventText(*record), ""));
  oakum::cli::Report report;
  report.Add(*record);
  // And the reader on what no agent has written.
  if (const auto forged = oakum::cli::ParseEventRecord(input)) {
    report.Add(*forged);
  }
  const auto summary = report.Summary();
  Demand(summary.leaks >= 1);
  Demand(IsHarmless(RenderText(summary, 10), "\n"));
  Demand(IsHarmless(RenderMarkdown(summary, 10), "\n"));
  Demand(nlohmann::json::accept(RenderJson(summary)));
  return 0;
}
