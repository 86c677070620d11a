#include "agent/events/event_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <functional>
#include <limits>
#include <system_error>
#include <utility>

namespace oakum::agent {

namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// How long the writer lets events gather before it takes the next batch.
constexpr milliseconds kBatchInterval(5);
// How long it waits after a failed write or open.
constexpr milliseconds kRetryInterval(1'000);
// How long it waits for a slow reader before it looks whether it has to stop.
constexpr int kSlowReaderMs = 100;
// How long the last lines may take when the agent ends.
constexpr milliseconds kFinishTime(2'000);
// Lines that are made but not written: beyond it the queue stays closed.
constexpr size_t kMaxPendingBytes = 1U << 20;

int64_t NowNs() {
  return std::chrono::duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

steady_clock::time_point At(int64_t ns) {
  return steady_clock::time_point(
      std::chrono::duration_cast<steady_clock::duration>(nanoseconds(ns)));
}

size_t SourceBucket(const EventSource* source) {
  // Allocations differ in the bits above their alignment.
  const auto value = reinterpret_cast<uintptr_t>(source) >> 4;
  return (value ^ value >> 8) & 0xff;
}

}  // namespace

size_t EventLog::KindHash::operator()(const KindKey& key) const {
  const auto& [source, verdict, leak] = key;
  return std::hash<const EventSource*>{}(source) * 16 + static_cast<size_t>(verdict) * 2 +
         (leak ? 1 : 0);
}

Expected<std::unique_ptr<EventLog>> EventLog::Create(const EventLogOptions& options,
                                                     const Log& log) {
  auto output = EventOutput::Create(options.path);
  if (!output) {
    return std::unexpected(std::move(output.error()));
  }
  std::unique_ptr<EventLog> event_log(new EventLog(options, std::move(*output), log));
  try {
    event_log->writer_ = std::thread([raw = event_log.get()] { raw->Run(); });
  } catch (const std::system_error& error) {
    return ErrnoError(error.code().value(), "events: start the writer thread");
  }
  return event_log;
}

EventLog::EventLog(const EventLogOptions& options, EventOutput output, const Log& log)
    : max_queued_(std::max<size_t>(options.max_queued, 1)),
      others_(std::make_shared<const EventSource>()),
      log_(log),
      folder_(options.fold),
      output_(std::move(output)) {
  filling_.events.reserve(max_queued_);
}

EventLog::~EventLog() {
  if (!writer_.joinable()) {
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  writer_.join();
}

void EventLog::Push(Event&& event) {
  std::unique_lock lock(mutex_);
  ++stats_.pushed[static_cast<size_t>(event.verdict)];
  stats_.leaks += event.leak ? 1 : 0;
  uint32_t& of_source = filling_.of_source[SourceBucket(event.source_of.get())];
  if (filling_.events.size() < max_queued_ && of_source < std::max<size_t>(max_queued_ / 4, 1)) {
    ++of_source;
    filling_.events.push_back(std::move(event));
  } else {
    CountOnly(std::move(event));
  }
  const bool wake = std::exchange(writer_sleeps_, false);
  lock.unlock();
  if (wake) {
    wake_.notify_one();
  }
}

void EventLog::CountOnly(Event&& event) {
  KindKey key(event.source_of.get(), event.verdict, event.leak);
  if (filling_.overflow.size() >= kMaxOverflowKinds && !filling_.overflow.contains(key)) {
    if (event.rule_of == nullptr) {
      event.rule_of = std::move(event.source_of);
    }
    event.source_of = others_;
    std::get<0>(key) = others_.get();
  }
  Overflow& overflow = filling_.overflow[key];
  if (overflow.count++ == 0) {
    overflow.example = std::move(event);  // keeps the container, and so the key, alive
  }
}

void EventLog::Reopen() {
  {
    const std::lock_guard lock(mutex_);
    filling_.reopen = true;
    writer_sleeps_ = false;
  }
  wake_.notify_one();
}

bool EventLog::Sync(int timeout_ms) {
  std::unique_lock lock(mutex_);
  const uint64_t generation = ++filling_.generation;
  writer_sleeps_ = false;
  wake_.notify_one();
  return synced_.wait_for(lock, milliseconds(timeout_ms),
                          [&] { return done_generation_ >= generation; });
}

EventLogStats EventLog::Stats() const {
  const std::lock_guard lock(mutex_);
  EventLogStats stats = stats_;
  stats.queued = filling_.events.size();
  return stats;
}

// Waits for something to do and takes it. While lines are pending the queue is left alone.
void EventLog::Take(Batch& batch) {
  std::unique_lock lock(mutex_);
  const auto something = [&] {
    return stop_ || filling_.reopen || !filling_.events.empty() || !filling_.overflow.empty() ||
           filling_.generation > done_generation_;
  };
  const bool full = output_.pending() > kMaxPendingBytes;
  if (failing_) {
    wake_.wait_until(lock, At(retry_ns_), [&] { return stop_ || filling_.reopen; });
  } else if (output_.pending() == 0 && !something()) {
    writer_sleeps_ = true;
    const int64_t expiry =
        reopen_ns_ != 0 ? std::min(folder_.NextExpiry(), reopen_ns_) : folder_.NextExpiry();
    if (expiry == std::numeric_limits<int64_t>::max()) {
      wake_.wait(lock, something);
    } else {
      wake_.wait_until(lock, At(expiry), something);
    }
    writer_sleeps_ = false;
  }
  batch.reopen = std::exchange(filling_.reopen, false);
  if (!full && (!failing_ || stop_)) {
    std::swap(batch.events, filling_.events);
    std::swap(batch.overflow, filling_.overflow);
    filling_.of_source.fill(0);
    batch.generation = filling_.generation;
  }
}

void EventLog::Process(Batch& batch) {
  std::string& out = output_.buffer();
  const int64_t now = NowNs();
  for (Event& event : batch.events) {
    folder_.Add(std::move(event), 0, now, out);
  }
  batch.events.clear();
  for (auto& [key, overflow] : batch.overflow) {
    folder_.Add(std::move(overflow.example), overflow.count - 1, now, out);
  }
  batch.overflow.clear();
  folder_.Expire(now, out);
}

void EventLog::ReportWrite(const Expected<void>& written) {
  const bool failed = !written && written.error().code != EAGAIN;
  if (failed) {
    retry_ns_ = NowNs() + std::chrono::duration_cast<nanoseconds>(kRetryInterval).count();
    const std::lock_guard lock(mutex_);
    ++stats_.write_errors;
  }
  // ENXIO: a FIFO waits for its reader, which is how it is meant to be.
  if (failed && !said_ && written.error().code != ENXIO) {
    log_.Error("{}; events are kept as counts until it works again", written.error().what);
    said_ = true;
  } else if (!failed && said_) {
    log_.Notice("events are written again");
    said_ = false;
  }
  failing_ = failed;
}

void EventLog::WriteOut() {
  const auto written = output_.Write();
  ReportWrite(written);
  if (!written && written.error().code == EAGAIN) {
    output_.WaitWritable(kSlowReaderMs);
  }
}

// The file that was renamed stays in use until there is another one.
void EventLog::Open() {
  if (const auto reopened = output_.Reopen(); reopened) {
    reopen_ns_ = 0;
    retry_ns_ = 0;
    return;
  } else if (reopen_ns_ == 0) {
    log_.Error("{}; the file that was open stays in use until it can be opened",
               reopened.error().what);
  }
  reopen_ns_ = NowNs() + std::chrono::duration_cast<nanoseconds>(kRetryInterval).count();
}

void EventLog::Run() {
  Batch batch;
  batch.events.reserve(max_queued_);
  for (bool stop = false; !stop;) {
    Take(batch);
    if (batch.reopen || (reopen_ns_ != 0 && NowNs() >= reopen_ns_)) {
      Open();
    }
    Process(batch);
    if (output_.pending() != 0 && (!failing_ || NowNs() >= retry_ns_)) {
      WriteOut();
    }
    std::unique_lock lock(mutex_);
    stats_.lines = folder_.lines();
    stats_.folded = folder_.folded();
    stats_.suppressed = folder_.suppressed();
    if (output_.pending() == 0 && batch.generation > done_generation_) {
      done_generation_ = batch.generation;
      synced_.notify_all();
    }
    wake_.wait_for(lock, kBatchInterval,
                   [&] { return stop_ || filling_.generation > done_generation_; });
    stop = stop_;
  }
  Take(batch);
  Process(batch);
  Finish();
}

void EventLog::Finish() {
  folder_.Flush(output_.buffer());
  output_.TakeBackUnread();  // which is lost, and is to be said
  const auto deadline = steady_clock::now() + kFinishTime;
  Expected<void> written = output_.Write();
  while (!written && written.error().code == EAGAIN && steady_clock::now() < deadline) {
    output_.WaitWritable(kSlowReaderMs);
    written = output_.Write();
  }
  if (!written) {
    log_.Error("{}; the last {} lines of events are lost", written.error().what,
               output_.PendingLines());
  }
  const std::lock_guard lock(mutex_);
  stats_.lines = folder_.lines();
  stats_.folded = folder_.folded();
  stats_.suppressed = folder_.suppressed();
}

}  // namespace oakum::agent
