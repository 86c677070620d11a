// The event log: takes events from sessions, never holds one up, and never loses count.
#ifndef OAKUM_AGENT_EVENTS_EVENT_LOG_H_
#define OAKUM_AGENT_EVENTS_EVENT_LOG_H_

#include <array>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "agent/events/event.h"
#include "agent/events/event_folder.h"
#include "agent/events/event_output.h"
#include "base/error.h"
#include "base/log.h"

namespace oakum::agent {

// Events that wait for the writer at a time; beyond that they are counted instead.
inline constexpr size_t kMaxQueuedEvents = 16'384;
// Counts of different container, verdict and leak that are kept while the queue is full; what is
// beyond them is counted without its container.
inline constexpr size_t kMaxOverflowKinds = 4'096;
inline constexpr size_t kEventVerdicts = 5;

struct EventLogOptions {
  std::string path = "-";  // "-": the standard output
  size_t max_queued = kMaxQueuedEvents;
  FoldLimits fold = {};
};

struct EventLogStats {
  std::array<uint64_t, kEventVerdicts> pushed{};  // by EventVerdict
  uint64_t leaks = 0;                             // pushed events with oakum.leak
  uint64_t lines = 0;                             // lines made
  uint64_t folded = 0;                            // events that stand in another line's count
  uint64_t suppressed = 0;                        // events that stand in another line's suppressed
  uint64_t write_errors = 0;
  uint64_t queued = 0;  // events that wait now
};

// Push takes some hundred nanoseconds: a mutex, a move, and a wake-up when the writer sleeps. When
// the queue is full, or one container has a quarter of it, an event is folded into the count of its
// container, verdict and leak. The writer thread makes the lines, one write(2) for each batch;
// while the file takes nothing (full disk, slow reader) the queue fills and the counts take over.
class EventLog : public EventSink {
 public:
  // Opens the file and starts the writer. `log` outlives the event log. Errors: open(2)'s.
  [[nodiscard]] static Expected<std::unique_ptr<EventLog>> Create(const EventLogOptions& options,
                                                                  const Log& log);
  // Writes what is there, for at most two seconds; says how much it could not write.
  ~EventLog() override;

  void Push(Event&& event) override;
  // Has the writer open the path anew (after the file was renamed); returns at once.
  void Reopen();
  // Waits until everything that was pushed before is written or counted into an open window.
  // False when that took longer than `timeout_ms`.
  [[nodiscard]] bool Sync(int timeout_ms);
  [[nodiscard]] EventLogStats Stats() const;

 private:
  using KindKey = std::tuple<const EventSource*, EventVerdict, bool>;
  struct Overflow {
    Event example;
    uint64_t count = 0;
  };
  struct KindHash {
    size_t operator()(const KindKey& key) const;
  };
  using OverflowMap = std::unordered_map<KindKey, Overflow, KindHash>;
  // What sessions fill while the writer works on another one.
  struct Batch {
    std::vector<Event> events;
    OverflowMap overflow;
    std::array<uint32_t, 256> of_source{};  // events by hash of their container
    uint64_t generation = 0;                // of the last Sync that it covers
    bool reopen = false;
  };

  EventLog(const EventLogOptions& options, EventOutput output, const Log& log);

  void CountOnly(Event&& event);
  void Open();
  void Run();
  void Take(Batch& batch);
  void Process(Batch& batch);
  void WriteOut();
  void ReportWrite(const Expected<void>& written);
  void Finish();

  const size_t max_queued_;
  const std::shared_ptr<const EventSource> others_;  // stands for containers beyond the bound
  const Log& log_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;    // for the writer
  std::condition_variable synced_;  // for Sync
  Batch filling_;
  bool writer_sleeps_ = false;
  bool stop_ = false;
  uint64_t done_generation_ = 0;
  EventLogStats stats_;

  // The writer's own.
  EventFolder folder_;
  EventOutput output_;
  bool failing_ = false;   // the last write failed
  bool said_ = false;      // and that was said
  int64_t retry_ns_ = 0;   // CLOCK_MONOTONIC: not before
  int64_t reopen_ns_ = 0;  // CLOCK_MONOTONIC: when it is opened anew once more; 0: it is open

  std::thread writer_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENTS_EVENT_LOG_H_
