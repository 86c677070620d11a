// Lines of an event log for tests.
#ifndef OAKUM_TEST_UNIT_CLI_EVENT_LINES_H_
#define OAKUM_TEST_UNIT_CLI_EVENT_LINES_H_

#include <nlohmann/json.hpp>
#include <string>

namespace oakum::cli::testing {

using nlohmann::json;

// A denied connect of container `id`; change what the test is about.
inline json EventJson(const std::string& id = "c1", int second = 0) {
  json event = json::parse(R"({
    "@timestamp": "2026-11-24T20:34:00.000000000Z",
    "event": {"kind": "alert", "action": "connect"},
    "network": {"transport": "tcp", "type": "ipv4", "direction": "egress"},
    "destination": {"address": "10.1.2.3", "ip": "10.1.2.3", "port": 80},
    "process": {"pid": 42, "executable": "/bin/busybox", "name": "wget"},
    "container": {"name": "web", "image": {"name": "localhost/box:latest"}},
    "rule": {"name": "outgoing.default deny"},
    "error": {"code": "EACCES"},
    "oakum": {"policy": "p", "verdict": "deny", "leak": true, "syscall": "connect"}
  })");
  event["container"]["id"] = id;
  std::string time = "2026-11-24T20:34:00.000000000Z";
  time[17] = static_cast<char>('0' + second / 10);
  time[18] = static_cast<char>('0' + second % 10);
  event["@timestamp"] = time;
  return event;
}

}  // namespace oakum::cli::testing

#endif  // OAKUM_TEST_UNIT_CLI_EVENT_LINES_H_
