#include "cli/event_record.h"

#include <fmt/format.h>

#include <cerrno>
#include <initializer_list>

#include "oci/json.h"

namespace oakum::cli {

namespace {

using oci::Json;

// The value at a path of keys, nullptr when there is none.
const Json* Find(const Json& json, std::initializer_list<const char*> path) {
  const Json* value = &json;
  for (const char* key : path) {
    if (!value->is_object()) {
      return nullptr;
    }
    const auto found = value->find(key);
    if (found == value->end()) {
      return nullptr;
    }
    value = &*found;
  }
  return value;
}

std::string Text(const Json& json, std::initializer_list<const char*> path) {
  const Json* value = Find(json, path);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

uint64_t Number(const Json& json, std::initializer_list<const char*> path, uint64_t otherwise) {
  const Json* value = Find(json, path);
  return value != nullptr && value->is_number_unsigned() ? value->get<uint64_t>() : otherwise;
}

// "10.1.2.3:80/tcp"; a unix name as it is.
std::string Endpoint(const Json& json, const char* side) {
  const std::string ip = Text(json, {side, "ip"});
  if (ip.empty()) {
    return Text(json, {side, "address"});
  }
  const std::string transport = Text(json, {"network", "transport"});
  const uint64_t port = Number(json, {side, "port"}, 0);
  return fmt::format(
      "{}{}{}",
      ip.contains(':') ? fmt::format("[{}]:{}", ip, port) : fmt::format("{}:{}", ip, port),
      transport.empty() ? "" : "/", transport);
}

}  // namespace

Expected<EventRecord> ParseEventRecord(std::string_view line) {
  const auto parsed = oci::ParseJson(line, "event");
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  const Json& json = *parsed;
  EventRecord record;
  record.time = Text(json, {"@timestamp"});
  record.verdict = Text(json, {"oakum", "verdict"});
  const Json* leak = Find(json, {"oakum", "leak"});
  if (record.time.empty() || record.verdict.empty() || leak == nullptr || !leak->is_boolean()) {
    return MakeError(EINVAL, "event: no \"@timestamp\", \"oakum.verdict\" or \"oakum.leak\"");
  }
  record.leak = leak->get<bool>();
  record.start = Text(json, {"event", "start"});
  if (record.start.empty()) {
    record.start = record.time;
  }
  record.action = Text(json, {"event", "action"});
  record.would = Text(json, {"oakum", "would"});
  record.destination = Endpoint(json, "destination");
  if (record.destination.empty()) {
    record.destination = Text(json, {"oakum", "detail"});
  }
  record.source = Endpoint(json, "source");
  record.container_id = Text(json, {"container", "id"});
  record.container_name = Text(json, {"container", "name"});
  record.image = Text(json, {"container", "image", "name"});
  record.ns = Text(json, {"orchestrator", "namespace"});
  record.pod = Text(json, {"orchestrator", "resource", "name"});
  record.policy = Text(json, {"oakum", "policy"});
  record.rule = Text(json, {"rule", "name"});
  record.executable = Text(json, {"process", "executable"});
  record.process_name = Text(json, {"process", "name"});
  record.pid = static_cast<int64_t>(Number(json, {"process", "pid"}, 0));
  record.error = Text(json, {"error", "code"});
  record.count = Number(json, {"oakum", "count"}, 1);
  record.others = Number(json, {"oakum", "suppressed"}, 0);
  return record;
}

bool MatchesContainer(const EventRecord& event, std::string_view container) {
  constexpr size_t kShortId = 12;  // as engines print them
  return container.empty() || event.container_name == container ||
         event.container_id == container ||
         (container.size() >= kShortId && event.container_id.starts_with(container));
}

std::string EventText(const EventRecord& event) {
  const auto& container = event.container_name.empty() ? event.container_id : event.container_name;
  std::string text = fmt::format(
      "{} {}{} {} {}[{}] {} {}", Escape(event.time), Escape(event.verdict),
      event.leak ? " LEAK" : "", container.empty() ? "-" : Escape(container),
      Escape(event.process_name.empty() ? event.executable : event.process_name), event.pid,
      Escape(event.action), event.destination.empty() ? "-" : Escape(event.destination));
  if (!event.source.empty()) {
    text += fmt::format(" from {}", Escape(event.source));
  }
  if (!event.error.empty()) {
    text += fmt::format(" {}", Escape(event.error));
  }
  if (!event.would.empty()) {
    text += fmt::format(" (would {})", Escape(event.would));
  }
  if (!event.rule.empty()) {
    text += fmt::format(" [{}]", Escape(event.rule));
  }
  if (event.count != 1) {
    text += fmt::format(" x{}", event.count);
  }
  if (event.others != 0) {
    text += fmt::format(" and {} others not shown", event.others);
  }
  return text;
}

}  // namespace oakum::cli
