#include "cli/run_sink.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

#include "cli/event_record.h"

namespace oakum::cli {

namespace {

constexpr size_t kVerdicts = 5;                   // of agent::EventVerdict
constexpr size_t kTakenAtOnce = size_t{1} << 20;  // of what is shared; no line is as long

}  // namespace

struct RunSink::Beyond {
  // By verdict, and whether it is a leak.
  std::array<std::array<std::atomic<uint64_t>, 2>, kVerdicts> events{};
};

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
    // Before the call is answered. What is shared is taken into the report when that is wanted:
    // reading a line takes longer than all the rest of the answer.
    if (beyond_ == nullptr) {
      Take(line_);
    } else if (!ShareLine()) {
      ++beyond_->events[static_cast<size_t>(event.verdict)][event.leak ? 1 : 0];
      Take(line_);
    }
  }
  if (next_ != nullptr) {
    next_->Push(std::move(event));
  }
  if (kill && on_kill_) {
    on_kill_();
  }
}

// False when there is no room for it, and then for none after it.
bool RunSink::ShareLine() {
  has_room_ =
      has_room_ && lseek(shared_.get(), 0, SEEK_CUR) < kMaxShared &&
      write(shared_.get(), line_.data(), line_.size()) == static_cast<ssize_t>(line_.size());
  return has_room_;
}

Expected<void> RunSink::Share() {
  shared_.Reset(memfd_create("oakum-events", MFD_CLOEXEC));
  if (!shared_) {
    return ErrnoError("memfd_create");
  }
  void* const memory =
      mmap(nullptr, sizeof(Beyond), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoError("mmap");
  }
  beyond_ = new (memory) Beyond;
  has_room_ = true;
  return {};
}

void RunSink::Take(std::string_view line) {
  auto record = ParseEventRecord(line);
  if (!record) {
    report_.AddBrokenLine();
    return;
  }
  report_.Add(*record);
  last_ = std::move(*record);
}

void RunSink::TakeShared() {
  std::string text;
  while (shared_) {
    text.resize(kTakenAtOnce);
    const ssize_t got = pread(shared_.get(), text.data(), text.size(), taken_);
    text.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
    const size_t whole = text.rfind('\n') + 1;  // 0 for none
    if (whole == 0) {
      break;
    }
    taken_ += static_cast<off_t>(whole);
    for (std::string_view rest(text.data(), whole); !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(line.size() + 1);
      Take(line);
    }
  }
}

void RunSink::Recall() {
  const std::lock_guard lock(mutex_);
  TakeShared();
  if (const off_t end = lseek(shared_.get(), 0, SEEK_END); end > taken_) {
    // Whoever wrote it was killed in the middle: what comes next is a line of its own.
    report_.AddBrokenLine();
    has_room_ = has_room_ && write(shared_.get(), "\n", 1) == 1;
    taken_ = end + 1;
  }
  // All events are of one program.
  EventRecord last = last_;
  for (size_t verdict = 0; verdict < kVerdicts; ++verdict) {
    for (const bool leak : {false, true}) {
      last.others = beyond_->events[verdict][leak ? 1 : 0];
      if (last.others != 0) {
        last.count = 0;
        last.verdict = ToString(static_cast<agent::EventVerdict>(verdict));
        last.leak = leak;
        report_.Add(last);
      }
    }
  }
}

ReportSummary RunSink::Summary() {
  const std::lock_guard lock(mutex_);
  TakeShared();
  return report_.Summary();
}

}  // namespace oakum::cli
