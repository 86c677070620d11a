// One line of the event log, read back (docs/events.md).
#ifndef OAKUM_CLI_EVENT_RECORD_H_
#define OAKUM_CLI_EVENT_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace oakum::cli {

// Text is as the log has it: to be escaped where it is shown.
struct EventRecord {
  std::string time;   // @timestamp
  std::string start;  // event.start, else @timestamp
  std::string action;
  std::string verdict;
  std::string would;
  bool leak = false;
  std::string destination;  // "10.1.2.3:80/tcp", "[fd00::1]:53/udp", "/run/x.sock", or the detail
  std::string source;       // of incoming connections
  std::string container_id;
  std::string container_name;
  std::string image;
  std::string ns;
  std::string pod;
  std::string policy;
  std::string rule;
  std::string executable;
  std::string process_name;
  int64_t pid = 0;
  std::string error;    // error.code
  uint64_t count = 1;   // events like this one that the line stands for
  uint64_t others = 0;  // oakum.suppressed: of the same container, verdict and leak

  [[nodiscard]] uint64_t StandsFor() const { return count + others; }
};

// Errors: EINVAL when the line is not JSON or not an event of ours.
[[nodiscard]] Expected<EventRecord> ParseEventRecord(std::string_view line);

// Whether the event is of the container with that id, start of an id (12 characters or more) or
// name; every event is of "".
[[nodiscard]] bool MatchesContainer(const EventRecord& event, std::string_view container);

// One line for people, escaped for a terminal.
[[nodiscard]] std::string EventText(const EventRecord& event);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_EVENT_RECORD_H_
