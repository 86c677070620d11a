#include "cli/run_sink.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "cli/event_record.h"

namespace oakum::cli {

namespace {

// Of events whose process has died that is enough: a program that makes more of them leaks.
constexpr off_t kMaxShared = 16 << 20;

}  // namespace

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
    // Before the call is answered, and in one piece.
    shares_ =
        shares_ && lseek(shared_.get(), 0, SEEK_CUR) < kMaxShared &&
        write(shared_.get(), line_.data(), line_.size()) == static_cast<ssize_t>(line_.size());
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

Expected<void> RunSink::Share() {
  shared_.Reset(memfd_create("oakum-events", MFD_CLOEXEC));
  if (!shared_) {
    return ErrnoError("memfd_create");
  }
  shares_ = true;
  return {};
}

void RunSink::Recall() {
  std::string text(static_cast<size_t>(std::max<off_t>(0, lseek(shared_.get(), 0, SEEK_END))), 0);
  const ssize_t got = pread(shared_.get(), text.data(), text.size(), 0);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
  const std::lock_guard lock(mutex_);
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (const auto record = ParseEventRecord(line); record) {
      report_.Add(*record);
    } else {
      report_.AddBrokenLine();
    }
  }
}

ReportSummary RunSink::Summary() const {
  const std::lock_guard lock(mutex_);
  return report_.Summary();
}

}  // namespace oakum::cli
