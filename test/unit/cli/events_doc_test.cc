// docs/events.md says what the agent writes: all of it, and nothing else.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "agent/events/event_json.h"
#include "agent/metrics.h"
#include "base/file.h"
#include "cli/event_record.h"
#include "test/unit/agent/agent_status_samples.h"
#include "test/unit/agent/event_samples.h"

namespace oakum::agent {
namespace {

using nlohmann::json;

std::string Page() {
  const char* source = std::getenv("OAKUM_SOURCE_DIR");
  return ReadFile(std::string(source == nullptr ? "." : source) + "/docs/events.md", 1 << 20)
      .value();
}

std::vector<std::string> PageLines() {
  std::vector<std::string> lines;
  std::istringstream stream(Page());
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

// What stands in backquotes in the first cell of each row.
std::set<std::string> FirstCells() {
  std::set<std::string> names;
  for (const std::string& line : PageLines()) {
    if (!line.starts_with("| `")) {
      continue;
    }
    const std::string cell = line.substr(1, line.find('|', 1) - 1);
    for (size_t at = 0; (at = cell.find('`', at)) != std::string::npos;) {
      const size_t end = cell.find('`', at + 1);
      names.insert(cell.substr(at + 1, end - at - 1));
      at = end + 1;
    }
  }
  return names;
}

void Flatten(const json& value, const std::string& path, std::set<std::string>& out) {
  if (!value.is_object()) {
    out.insert(path);
    return;
  }
  for (const auto& [key, member] : value.items()) {
    Flatten(member, path.empty() ? key : path + "." + key, out);
  }
}

std::vector<std::string> Examples() {
  std::vector<std::string> examples;
  for (const std::string& line : PageLines()) {
    if (line.starts_with("{\"@timestamp\"")) {
      examples.push_back(line);
    }
  }
  return examples;
}

// One event of each kind, which between them have every field.
std::set<std::string> WrittenFields() {
  auto source = std::make_shared<EventSource>(*testing::Source("c"));
  source->facts.ns = "n";
  source->facts.pod = "p";
  EventSerializer serializer;
  std::set<std::string> fields;
  const auto write = [&](const Event& event, const EventCounts& counts) {
    std::string line;
    serializer.Append(event, counts, line);
    Flatten(json::parse(line), "", fields);
  };
  Event event = testing::Denied(source);
  write(event, {.count = 2, .first_ns = 1, .suppressed = 3});
  event.operation = policy::Operation::kAccept;
  event.verdict = EventVerdict::kAudit;
  event.detail = "d";
  event.domain = "www.example.com";
  write(event, {});
  return fields;
}

TEST(EventsDoc, EveryFieldThatIsWrittenIsDescribed) {
  const auto described = FirstCells();
  for (const std::string& field : WrittenFields()) {
    EXPECT_TRUE(described.contains(field)) << field;
  }
}

TEST(EventsDoc, EveryFieldThatIsDescribedIsWritten) {
  std::set<std::string> written = WrittenFields();
  written.insert("oakum.policy");  // in the examples; a test has no compiled policy at hand
  for (const std::string& field : FirstCells()) {
    EXPECT_TRUE(written.contains(field) || field.starts_with("oakum_")) << field;
  }
}

TEST(EventsDoc, ExamplesAreEvents) {
  const auto examples = Examples();
  ASSERT_EQ(examples.size(), 6);
  const auto described = FirstCells();
  for (const std::string& example : examples) {
    EXPECT_TRUE(cli::ParseEventRecord(example)) << example;
    std::set<std::string> fields;
    Flatten(json::parse(example), "", fields);
    for (const std::string& field : fields) {
      EXPECT_TRUE(described.contains(field)) << field;
    }
  }
}

TEST(EventsDoc, FirstExampleIsWhatTheAgentWrites) {
  auto source = std::make_shared<EventSource>(*testing::Source("3f2c"));
  source->facts.name = "shop";
  std::string line;
  EventSerializer().Append(testing::Denied(source), {}, line);
  std::string example = Examples().at(0) + "\n";
  const std::string policy = R"("policy":"proxy-only",)";
  example.erase(example.find(policy), policy.size());
  EXPECT_EQ(line, example);
}

TEST(EventsDoc, EveryMetricIsDescribedAndNoOther) {
  std::set<std::string> described;
  for (const std::string& name : FirstCells()) {
    if (name.starts_with("oakum_")) {
      described.insert(name.substr(0, name.find('{')));
    }
  }
  std::set<std::string> rendered;
  std::istringstream page(RenderMetrics(testing::Status()));
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("# TYPE ")) {
      rendered.insert(line.substr(7, line.find(' ', 7) - 7));
    }
  }
  EXPECT_EQ(described, rendered);
}

}  // namespace
}  // namespace oakum::agent
