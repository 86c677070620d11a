#include "agent/session/reactor.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agent/caller/caller_state.h"
#include "agent/caller/identity.h"
#include "agent/server/blocking_pool.h"
#include "agent/server/wakeable_epoll.h"
#include "agent/session/look_queue.h"
#include "agent/session/pending_call.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::milliseconds kSweepInterval{50};
// To ask after all calls of a container takes time that grows with the square of their number. No
// more than a hundredth of a processor is spent on it, and where it is more than a moment's work it
// is done aside, so that other containers' calls do not wait for it.
constexpr int kSweepPause = 99;  // times what the last sweep has taken
constexpr size_t kMaxSweptHere = 16;
constexpr std::chrono::microseconds kMoment{200};
// What is tried again after a time, and not when it is ready: of one session so often at most.
constexpr std::chrono::microseconds kRetryShare{200};  // for each call of it that waits
constexpr int kMaxTimersATurn = 64;
constexpr std::chrono::milliseconds kInterruptEvery{1};
constexpr uint64_t kWakeKey = 0;

// How often callers are looked at that may want to leave and cannot, and how many at a time: some
// 3,200 a second, which takes one hundredth of a processor. Often only for a while after the last
// call that came to wait.
constexpr std::chrono::milliseconds kLookInterval{10};
constexpr std::chrono::seconds kLookOftenFor{2};
constexpr size_t kMostLooks = 32;
// More than so many at a time are looked at aside (10 us each), for other containers' calls wait
// meanwhile. Whoever looks at many sleeps in between: sched_yield(2) would leave the processor to
// threads with slices as short as the agent's own (main.cc), and not to a container's.
constexpr size_t kMaxLookedAtHere = 2;
constexpr size_t kLooksInARow = 4;
constexpr size_t kSweptInARow = 16;
constexpr std::chrono::microseconds kRest{50};

// Each waiting call holds a duplicate of its socket. One session may have so many of them, and all
// sessions together half of the agent's descriptors, but each some in any case.
constexpr size_t kMaxWaitingOfSession = 1024;
constexpr size_t kWaitingAlwaysAllowed = 32;
constexpr size_t kMaxSpareRings = 16;

size_t MaxWaiting() {
  rlimit limit = {};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur / 2 : kMaxWaitingOfSession;
}

std::chrono::nanoseconds ProcessorTime() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// What a thousand calls of one session that try again and again leave of their haste.
std::chrono::milliseconds Paced(std::chrono::milliseconds retry, const PendingCall& pending) {
  if (retry.count() == 0) {
    return retry;
  }
  const auto share = kRetryShare * static_cast<int64_t>(pending.owner()->waiting());
  return std::max(retry, std::chrono::duration_cast<std::chrono::milliseconds>(share));
}

using Calls = std::vector<std::shared_ptr<PendingCall>>;

// What was found when a session's calls were looked at.
struct Swept {
  const SessionCore* owner;
  Calls left;                  // to be given up
  std::vector<uint64_t> over;  // to be forgotten
  std::chrono::nanoseconds took{0};
};

class EpollReactor final : public Reactor {
 public:
  EpollReactor(UniqueFd epoll, UniqueFd wake, bool use_io_uring)
      : epoll_(std::move(epoll)), wake_(std::move(wake)), use_io_uring_(use_io_uring) {
    thread_ = std::thread([this] { Loop(); });
  }

  ~EpollReactor() override {
    stopping_.store(true);
    Wake();
    thread_.join();
  }

  bool HasRoomFor(const SessionCore& core) const override {
    const size_t of_session = core.waiting();
    return of_session < kMaxWaitingOfSession &&
           (of_session < kWaitingAlwaysAllowed || calls_in_all_.load() < max_waiting_);
  }

  bool WasTimedWait(const std::shared_ptr<PendingCall>& pending,
                    const Notification& call) const override {
    return pending->IsTimedWaitOf(call);
  }

  bool IsOver(const std::shared_ptr<PendingCall>& pending) const override {
    return pending->IsOver();
  }

  std::shared_ptr<PendingCall> Add(std::shared_ptr<SessionCore> core, const GuardedCall& call,
                                   std::unique_ptr<Operation> operation) override {
    auto pending = std::make_shared<PendingCall>(next_key_.fetch_add(1), epoll_.get(),
                                                 std::move(core), call, std::move(operation));
    {
      const std::lock_guard lock(inbox_mutex_);
      inbox_.push_back(pending);
    }
    Wake();
    return pending;
  }

  void Cancel(const std::shared_ptr<PendingCall>& pending) override {
    pending->Abandon();
    if (pending->on_thread()) {
      while (!pending->WaitForThread(kInterruptEvery)) {
        (void)blocking_.Interrupt(pending->key());
      }
      return;
    }
    const std::lock_guard lock(inbox_mutex_);
    over_.push_back(pending->key());
  }

 private:
  void Wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(wake_.get(), &one, sizeof one);
  }

  void Loop() {
    pthread_setname_np(pthread_self(), "reactor");
    SetEffectiveCapabilities(kPerformerCapabilities);
    Clock::time_point next_sweep = Clock::now();
    std::array<epoll_event, 64> events;
    while (!stopping_.load()) {
      const int count =
          epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), PollTimeout());
      for (int i = 0; i < count; ++i) {
        const uint64_t key = events[static_cast<size_t>(i)].data.u64;
        if (key == kWakeKey) {
          uint64_t ignored = 0;
          [[maybe_unused]] const ssize_t got = read(wake_.get(), &ignored, sizeof ignored);
        } else {
          Advance(key);
        }
      }
      TakeInbox();
      RunTimers();
      if (const auto now = Clock::now(); now >= next_sweep) {
        Sweep(now);
        next_sweep = now + kSweepInterval;
      }
      LookForSignals();
      calls_in_all_.store(calls_.size());
    }
    for (auto& [key, pending] : calls_) {
      pending->TryAbandon();
    }
    blocking_.InterruptAll();
  }

  [[nodiscard]] std::chrono::milliseconds LookInterval() const {
    return Clock::now() - last_added_ < kLookOftenFor ? kLookInterval : kSweepInterval;
  }

  void LookForSignals() {
    const Clock::time_point now = Clock::now();
    if (now < next_look_ || looking_.load()) {
      return;
    }
    const auto interval = LookInterval();
    Calls due;
    looks_.Look(kMostLooks * static_cast<size_t>(interval / kLookInterval), [&](uint64_t key) {
      const auto found = calls_.find(key);
      if (found != calls_.end()) {
        due.push_back(found->second);
      }
      return found != calls_.end();
    });
    next_look_ = now + interval;
    if (due.size() <= kMaxLookedAtHere) {
      for (const auto& pending : due) {
        LookForSignal(pending);
      }
      return;
    }
    looking_.store(true);
    steps_.Run(this, next_step_++, [this, due = std::move(due)] {
      SetEffectiveCapabilities(kPerformerCapabilities);
      size_t looks = 0;
      for (const auto& pending : due) {
        LookForSignal(pending);
        if (++looks % kLooksInARow == 0) {
          std::this_thread::sleep_for(kRest);
        }
      }
      looking_.store(false);
    });
  }

  // By any thread.
  void LookForSignal(const std::shared_ptr<PendingCall>& pending) {
    if (!SleepsThroughSignals(pending->tid())) {
      return;
    }
    if (pending->SetInterrupted()) {
      RunAside(pending, [](PendingCall& interrupted) { interrupted.Interrupt(); });
    } else if (pending->on_thread()) {
      (void)blocking_.Interrupt(pending->key());
    }
  }

  [[nodiscard]] int PollTimeout() const {
    if (calls_.empty()) {
      return -1;
    }
    auto left = LookInterval();
    if (!timers_.empty()) {
      const auto until =
          std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
      left = std::clamp(until, std::chrono::milliseconds(0), left);
    }
    return static_cast<int>(left.count());
  }

  void TakeInbox() {
    Calls fresh;
    std::vector<std::pair<uint64_t, std::chrono::milliseconds>> retries;
    std::vector<uint64_t> over;
    std::vector<Swept> swept;
    {
      const std::lock_guard lock(inbox_mutex_);
      fresh.swap(inbox_);
      retries.swap(retries_);
      over.swap(over_);
      swept.swap(swept_);
    }
    for (const auto& [key, delay] : retries) {
      RetryAfter(key, delay);
    }
    if (!fresh.empty()) {
      last_added_ = Clock::now();
    }
    for (auto& pending : fresh) {
      const uint64_t key = pending->key();
      calls_.emplace(key, pending);
      looks_.Add(pending->owner(), key);
      sessions_[pending->owner()].calls.emplace(key, pending);
      if (pending->on_thread()) {
        blocking_.Run(pending->owner(), key, [pending] {
          SetEffectiveCapabilities(kPerformerCapabilities);
          pending->RunBlocking();
        });
        continue;
      }
      if (pending->deadline()) {
        timers_.emplace(*pending->deadline(), key);
      }
      std::chrono::milliseconds retry{0};
      if (pending->Arm(retry) == PendingCall::Turn::kWaiting) {
        RetryAfter(key, Paced(retry, *pending));
      }
    }
    for (const uint64_t key : over) {
      Forget(key);
    }
    for (const Swept& one : swept) {
      TakeSwept(one);
    }
  }

  void Forget(uint64_t key) {
    const auto found = calls_.find(key);
    if (found == calls_.end()) {
      return;
    }
    const auto session = sessions_.find(found->second->owner());
    session->second.calls.erase(key);
    if (session->second.calls.empty()) {
      sessions_.erase(session);
    }
    calls_.erase(found);
  }

  void RetryAfter(uint64_t key, std::chrono::milliseconds delay) {
    if (delay.count() > 0) {
      timers_.emplace(Clock::now() + delay, key);
    }
  }

  void Advance(uint64_t key) {
    const auto found = calls_.find(key);
    if (found == calls_.end() || found->second->on_thread()) {
      return;
    }
    RunAside(found->second, [this](PendingCall& pending) { AdvanceAside(pending); });
  }

  // Has `step` run on a thread of `steps_`.
  void RunAside(const std::shared_ptr<PendingCall>& pending,
                std::function<void(PendingCall&)> step) {
    steps_.Run(pending->owner(), next_step_++, [this, pending, step = std::move(step)] {
      SetEffectiveCapabilities(kPerformerCapabilities);
      step(*pending);
      if (pending->IsOver()) {
        const std::lock_guard lock(inbox_mutex_);
        over_.push_back(pending->key());
      }
    });
  }

  // On a thread of `steps_`.
  void AdvanceAside(PendingCall& pending) {
    std::unique_ptr<UringCalls> uring = TakeRing();
    std::chrono::milliseconds retry{0};
    const auto turn = pending.Advance({uring.get(), true}, retry);
    const std::lock_guard lock(inbox_mutex_);
    if (uring != nullptr && spare_rings_.size() < kMaxSpareRings) {
      spare_rings_.push_back(std::move(uring));
    }
    if (turn == PendingCall::Turn::kWaiting && retry.count() > 0) {
      retries_.emplace_back(pending.key(), Paced(retry, pending));
      Wake();
    }
  }

  [[nodiscard]] std::unique_ptr<UringCalls> TakeRing() {
    if (!use_io_uring_) {
      return nullptr;
    }
    {
      const std::lock_guard lock(inbox_mutex_);
      if (!spare_rings_.empty()) {
        auto ring = std::move(spare_rings_.back());
        spare_rings_.pop_back();
        return ring;
      }
    }
    auto ring = UringCalls::Create(false);
    return ring ? std::move(*ring) : nullptr;
  }

  void RunTimers() {
    const Clock::time_point now = Clock::now();
    for (int i = 0; i < kMaxTimersATurn && !timers_.empty() && timers_.begin()->first <= now; ++i) {
      const uint64_t key = timers_.begin()->second;
      timers_.erase(timers_.begin());
      const auto found = calls_.find(key);
      if (found == calls_.end()) {
        continue;
      }
      const auto deadline = found->second->deadline();
      if (!deadline || *deadline > now) {
        Advance(key);
      } else {
        RunAside(found->second, [](PendingCall& pending) { pending.TimeOut(); });
      }
    }
  }

  // Finds calls whose caller has been interrupted or has died: the kernel does not tell.
  void Sweep(Clock::time_point now) {
    std::vector<Swept> found;
    for (auto& [owner, session] : sessions_) {
      if (session.sweeping || now < session.next_sweep) {
        continue;
      }
      session.sweeping = true;
      Calls calls;
      calls.reserve(session.calls.size());
      for (const auto& [key, pending] : session.calls) {
        calls.push_back(pending);
      }
      if (calls.size() <= kMaxSweptHere && session.last_sweep < kMoment) {
        found.push_back(LookAt(owner, calls));
        continue;
      }
      steps_.Run(owner, next_step_++, [this, whose = owner, calls = std::move(calls)] {
        SetEffectiveCapabilities(kPerformerCapabilities);
        Swept swept = LookAt(whose, calls);
        const std::lock_guard lock(inbox_mutex_);
        swept_.push_back(std::move(swept));
        Wake();
      });
    }
    for (const Swept& swept : found) {
      TakeSwept(swept);
    }
  }

  // Of one session. By any thread.
  Swept LookAt(const SessionCore* owner, const Calls& calls) {
    Swept swept{.owner = owner, .left = {}, .over = {}};
    const auto begun = ProcessorTime();
    size_t looked_at = 0;
    for (const auto& pending : calls) {
      if (++looked_at % kSweptInARow == 0 && calls.size() > kMaxSweptHere) {
        std::this_thread::sleep_for(kRest);
      }
      const PendingCall::Due due = pending->Sweep();
      if (due == PendingCall::Due::kLeft && !pending->on_thread()) {
        swept.left.push_back(pending);
        continue;
      }
      if (due == PendingCall::Due::kLeft) {
        pending->TryAbandon();  // which leaves the operation to its thread
      }
      if (due != PendingCall::Due::kNothing &&
          !(pending->on_thread() && blocking_.Interrupt(pending->key()))) {
        swept.over.push_back(pending->key());
      }
    }
    swept.took = ProcessorTime() - begun;
    return swept;
  }

  void TakeSwept(const Swept& swept) {
    if (const auto found = sessions_.find(swept.owner); found != sessions_.end()) {
      OfSession& session = found->second;
      session.sweeping = false;
      session.last_sweep = swept.took;
      session.next_sweep = Clock::now() + kSweepPause * swept.took;
    }
    for (const auto& pending : swept.left) {
      if (pending->SetLeft()) {
        RunAside(pending, [](PendingCall& left) { left.Abandon(); });
      }
    }
    for (const uint64_t key : swept.over) {
      Forget(key);
    }
  }

  // The calls of one session that wait; those that are over are soon forgotten.
  struct OfSession {
    std::unordered_map<uint64_t, std::shared_ptr<PendingCall>> calls;
    bool sweeping = false;
    std::chrono::nanoseconds last_sweep{0};
    Clock::time_point next_sweep;
  };

  UniqueFd epoll_;
  UniqueFd wake_;
  const bool use_io_uring_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> next_key_{kWakeKey + 1};
  std::atomic<size_t> calls_in_all_{0};
  const size_t max_waiting_ = MaxWaiting();
  std::mutex inbox_mutex_;
  Calls inbox_;
  std::vector<std::pair<uint64_t, std::chrono::milliseconds>> retries_;
  std::vector<uint64_t> over_;
  std::vector<Swept> swept_;
  std::vector<std::unique_ptr<UringCalls>> spare_rings_;
  std::atomic<uint64_t> next_step_{0};
  std::atomic<bool> looking_{false};  // aside
  // The loop's own:
  std::unordered_map<uint64_t, std::shared_ptr<PendingCall>> calls_;
  std::unordered_map<const SessionCore*, OfSession> sessions_;
  std::set<std::pair<Clock::time_point, uint64_t>> timers_;
  LookQueue looks_;
  Clock::time_point next_look_ = Clock::now();
  Clock::time_point last_added_ = next_look_;
  BlockingPool blocking_;  // whole calls, where io_uring is switched off
  BlockingPool steps_;     // whatever touches a container
  std::thread thread_;
};

}  // namespace

Expected<std::unique_ptr<Reactor>> Reactor::Create(bool use_io_uring) {
  auto waits = WakeableEpoll::Create(kWakeKey);
  if (!waits) {
    return std::unexpected(std::move(waits.error()));
  }
  return std::make_unique<EpollReactor>(std::move(waits->epoll), std::move(waits->wake),
                                        use_io_uring);
}

}  // namespace oakum::agent
