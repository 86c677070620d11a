// One event as one line of JSON in Elastic Common Schema names (docs/events.md).
#ifndef OAKUM_AGENT_EVENTS_EVENT_JSON_H_
#define OAKUM_AGENT_EVENTS_EVENT_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/events/event.h"

namespace oakum::agent {

[[nodiscard]] std::string_view ToString(EventVerdict verdict);
[[nodiscard]] std::string_view ToString(policy::Verdict verdict);
[[nodiscard]] std::string_view ToString(policy::Operation operation);
[[nodiscard]] std::string_view ToString(policy::Mode mode);

// How many pushed events a line stands for: count + suppressed.
struct EventCounts {
  uint64_t count = 1;       // events equal to the one shown, itself included
  int64_t first_ns = 0;     // CLOCK_REALTIME of the first of them; used when count > 1
  uint64_t suppressed = 0;  // others of the same container, verdict and leak, not shown
};

// Appends RFC 3339 in UTC with nanoseconds: 2026-11-24T20:34:44.123456789Z. `time_ns` is of
// CLOCK_REALTIME and not negative.
void AppendTimestamp(int64_t time_ns, std::string& out);

// Writes events into a buffer that the caller reuses. Not thread-safe: it remembers the last second
// that it formatted.
class EventSerializer {
 public:
  // Appends the line, "\n" included. Nothing inside the line is a newline.
  void Append(const Event& event, const EventCounts& counts, std::string& out);

 private:
  void AppendTime(int64_t time_ns, std::string& out);

  int64_t second_ = -1;
  std::string second_text_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENTS_EVENT_JSON_H_
