// Where the sessions of `oakum run` put events: into a report in memory, and on to an event log.
#ifndef OAKUM_CLI_RUN_SINK_H_
#define OAKUM_CLI_RUN_SINK_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "agent/events/event.h"
#include "agent/events/event_json.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "cli/event_record.h"
#include "cli/report.h"

namespace oakum::cli {

// Counts every event by itself: nothing is folded, and memory grows with the different rows of the
// report only (kMaxReportRows).
class RunSink : public agent::EventSink {
 public:
  static constexpr int64_t kMaxShared = int64_t{16} << 20;

  // `next` gets all events as well, null for none; `on_kill` is called after one whose verdict is
  // kill. Both outlive the sessions. Before the first Push.
  void Connect(agent::EventSink* next, std::function<void()> on_kill);
  void Push(agent::Event&& event) override;
  // Has processes that are forked from now on share what was pushed: kMaxShared bytes of events
  // with all that they say, of those after them how many there were of each verdict, leaks or not.
  // Errors: memfd_create(2)'s, mmap(2)'s.
  [[nodiscard]] Expected<void> Share();
  // Takes into the report what another process has pushed.
  void Recall();
  // Of all that was pushed.
  [[nodiscard]] ReportSummary Summary();

 private:
  // In memory of all who share: the events that have no line.
  struct Beyond;

  [[nodiscard]] bool ShareLine();
  // Takes a line into the report.
  void Take(std::string_view line);
  // The same for what has been shared since this was done last.
  void TakeShared();

  agent::EventSink* next_ = nullptr;
  std::function<void()> on_kill_;
  std::mutex mutex_;
  agent::EventSerializer serializer_;
  std::string line_;  // of the event in hand
  UniqueFd shared_;   // lines, to a bound
  bool has_room_ = false;
  off_t taken_ = 0;           // so much of them is in the report
  EventRecord last_;          // of the lines in the report
  Beyond* beyond_ = nullptr;  // there until the process ends; null: nothing is shared
  Report report_;
};

}  // namespace oakum::cli

#endif  // OAKUM_CLI_RUN_SINK_H_
