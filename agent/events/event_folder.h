// Keeps a flood of events short without losing count: the n-th equal event becomes a number.
#ifndef OAKUM_AGENT_EVENTS_EVENT_FOLDER_H_
#define OAKUM_AGENT_EVENTS_EVENT_FOLDER_H_

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>

#include "agent/events/event.h"
#include "agent/events/event_json.h"

namespace oakum::agent {

struct FoldLimits {
  int64_t window_ns = 1'000'000'000;
  uint32_t singles = 10;          // equal events of one window that get a line each
  uint32_t source_lines = 1'000;  // lines of one container in one window
  size_t kinds = 4'096;           // different events that are remembered at a time
};

// Turns events into lines. Equal events (the same container, verdict, call, addresses, rule,
// executable and answer) beyond `singles` in a window become one line with `oakum.count` at the
// window's end; a container's events beyond `source_lines` become one line with `oakum.suppressed`
// for each verdict and leak. Over all lines, count + suppressed is the number of events that were
// added. Times are of CLOCK_MONOTONIC in nanoseconds, given by the caller. Not thread-safe.
class EventFolder {
 public:
  explicit EventFolder(const FoldLimits& limits) : limits_(limits) {}

  // Takes one event, and with it `others` that are known only by number (0: none). Appends the
  // lines that are due now to `out`.
  void Add(Event&& event, uint64_t others, int64_t now_ns, std::string& out);
  // Appends the lines of all windows that have ended by `now_ns`.
  void Expire(int64_t now_ns, std::string& out);
  // Ends all windows.
  void Flush(std::string& out);
  // When the next window ends that will write a line; INT64_MAX when there is none.
  [[nodiscard]] int64_t NextExpiry() const;

  [[nodiscard]] uint64_t lines() const { return lines_; }
  [[nodiscard]] uint64_t folded() const { return folded_; }
  [[nodiscard]] uint64_t suppressed() const { return suppressed_; }

 private:
  enum class Width : uint8_t { kExact, kSource };  // what the events of a window have in common
  struct Window {
    Width width = Width::kExact;
    Event last;
    uint32_t singles = 0;  // events that got a line
    uint64_t pending = 0;  // events that did not yet
    int64_t first_ns = 0;  // CLOCK_REALTIME of the first pending one
  };
  struct Expiry {
    int64_t end_ns;
    uint64_t hash;
  };
  struct SourceBudget {
    int64_t end_ns = 0;
    uint32_t lines = 0;
  };

  void Write(const Event& event, const EventCounts& counts, std::string& out);
  void WriteWindow(Window& window, std::string& out);
  bool SpendLine(const EventSource* source, int64_t now_ns);
  void AddToSource(Event&& event, int64_t now_ns, std::string& out);
  void Open(uint64_t hash, Window&& window, int64_t now_ns, std::string& out);
  void EndOldest(std::string& out);

  FoldLimits limits_;
  EventSerializer serializer_;
  std::unordered_map<uint64_t, Window> windows_;
  std::deque<Expiry> expiries_;  // one for each window, in order of time
  std::unordered_map<const EventSource*, SourceBudget> budgets_;
  size_t pending_windows_ = 0;
  uint64_t lines_ = 0;
  uint64_t folded_ = 0;
  uint64_t suppressed_ = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENTS_EVENT_FOLDER_H_
