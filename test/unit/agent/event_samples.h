// Events for tests.
#ifndef OAKUM_TEST_UNIT_AGENT_EVENT_SAMPLES_H_
#define OAKUM_TEST_UNIT_AGENT_EVENT_SAMPLES_H_

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>

#include "agent/events/event.h"

namespace oakum::agent::testing {

inline std::shared_ptr<const EventSource> Source(const std::string& id) {
  auto source = std::make_shared<EventSource>();
  source->container_id = id;
  source->facts.engine = "podman";
  source->facts.name = fmt::format("web-{}", id);
  source->facts.image = "localhost/box:latest";
  return source;
}

inline std::shared_ptr<const ProcessInfo> Process() {
  auto process = std::make_shared<ProcessInfo>();
  process->pid = 4242;
  process->executable = "/bin/busybox";
  process->name = "wget";
  process->command_line = "wget http://10.1.2.3/";
  process->uid = 1000;
  return process;
}

// A denied connect to 10.1.2.3 at `port`.
inline Event Denied(std::shared_ptr<const EventSource> source, uint16_t port = 80) {
  Event event;
  event.time_ns = 1'795'552'484'123'456'789;  // 2026-11-24T20:34:44.123456789Z
  event.verdict = EventVerdict::kDeny;
  event.leak = true;
  event.family = Event::Family::kIpv4;
  event.destination = {.ip = policy::IpAddress::FromV4({10, 1, 2, 3}), .port = port};
  event.syscall = "connect";
  event.rule = "outgoing.default deny";
  event.errno_value = 13;
  event.thread_id = 4243;
  event.process = Process();
  event.source_of = std::move(source);
  return event;
}

}  // namespace oakum::agent::testing

#endif  // OAKUM_TEST_UNIT_AGENT_EVENT_SAMPLES_H_
