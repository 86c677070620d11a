#include "cli/run_sink.h"

#include <utility>

#include "cli/event_record.h"

namespace oakum::cli {

void RunSink::Connect(agent::EventSink* next, std::function<void()> on_kill) {
  next_ = next;
  on_kill_ = std::move(on_kill);
}

void RunSink::Push(agent::Event&& event) {
  const bool kill = event.verdict == agent::EventVerdict::kKill;
  {
    const std::lock_guard lock(mutex_);
    line_.clear();
    serializer_.Append(event, {}, line_);
    if (const auto record = ParseEventRecord(line_); record) {
      report_.Add(*record);
    } else {
      report_.AddBrokenLine();
    }
  }
  if (next_ != nullptr) {
    next_->Push(std::move(event));
  }
  if (kill && on_kill_) {
    on_kill_();
  }
}

ReportSummary RunSink::Summary() const {
  const std::lock_guard lock(mutex_);
  return report_.Summary();
}

}  // namespace oakum::cli
