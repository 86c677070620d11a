#include "agent/reactor.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agent/blocking_pool.h"
#include "agent/identity.h"
#include "agent/wakeable_epoll.h"

namespace oakum::agent {

namespace {

// A call that a signal interrupted is made again when the handler has returned.
constexpr std::chrono::milliseconds kRestartsWithin{250};

}  // namespace

// The epoll instance outlives every PendingCall that is armed in it.
class PendingCall {
 public:
  PendingCall(uint64_t key, int epoll_fd, std::shared_ptr<SessionCore> core,
              const GuardedCall& call, std::unique_ptr<Operation> operation)
      : key_(key),
        epoll_fd_(epoll_fd),
        core_(std::move(core)),
        call_(call),
        on_thread_(operation->needs_thread()),
        operation_(std::move(operation)) {
    if (const auto timeout = operation_->timeout(); timeout) {
      deadline_ = Clock::now() + *timeout;
    }
    core_->CountWaiting(1);
  }
  ~PendingCall() = default;
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  [[nodiscard]] uint64_t key() const { return key_; }
  [[nodiscard]] const SessionCore* owner() const { return core_.get(); }
  [[nodiscard]] bool on_thread() const { return on_thread_; }
  // Whoever sets it first has to see that the call is given up. The reactor's thread only.
  [[nodiscard]] bool SetLeft() { return !std::exchange(left_, true); }
  [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }

  // What became of something that the reactor's thread tried to do without ever waiting.
  enum class Turn : uint8_t {
    kOver,     // answered or given up
    kWaiting,  // armed again
    kBusy,     // another thread is taking a step
  };

  // Arms what the operation waits for. `retry`: how long until it is to be tried again in any case;
  // 0: when it is ready.
  [[nodiscard]] Turn Arm(std::chrono::milliseconds& retry) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) {
      return Turn::kBusy;
    }
    if (over_) {
      return Turn::kOver;
    }
    retry = ArmLocked();
    return Turn::kWaiting;
  }

  // One step, by a thread that the container may hold up.
  [[nodiscard]] Turn Advance(const Stepper& stepper, std::chrono::milliseconds& retry) {
    const std::lock_guard lock(mutex_);
    if (over_) {
      return Turn::kOver;
    }
    auto answer = operation_->Step(stepper);
    if (answer) {
      End(std::move(*answer));
      return Turn::kOver;
    }
    retry = ArmLocked();
    return Turn::kWaiting;
  }

  void RunBlocking() {
    Answer answer = operation_->RunBlocking();
    const std::lock_guard lock(mutex_);
    if (!over_) {
      End(std::move(answer));
      return;
    }
    // EINTR here is our own request to give up: the caller has left.
    if (answer.performed && answer.error != EINTR) {
      core_->KeepForReplay(call_, std::move(answer), operation_->socket_fd());
    }
    Release();
  }

  // By a thread that the container may hold up.
  void TimeOut() {
    const std::lock_guard lock(mutex_);
    if (!over_) {
      End(operation_->TimedOut());
    }
  }

  // What there is to do for the reactor's thread.
  enum class Due : uint8_t {
    kNothing,
    kLeft,    // its caller has left: somebody has to give it up
    kForget,  // it is over
  };
  [[nodiscard]] Due Sweep() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) {
      return Due::kNothing;  // a step is being taken
    }
    if (over_) {
      return Due::kForget;
    }
    return core_->notify().IdValid(call_.notification.id) ? Due::kNothing : Due::kLeft;
  }

  [[nodiscard]] bool IsOver() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    return lock && over_;
  }

  // Gives the call up; waits for a step that is being taken.
  void Abandon() {
    const std::lock_guard lock(mutex_);
    AbandonLocked();
  }

  // The same, unless a step is being taken.
  void TryAbandon() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock) {
      AbandonLocked();
    }
  }

  // Whether `other` is this call made again by the same thread, and its socket sets a time limit.
  [[nodiscard]] bool IsTimedWaitOf(const Notification& other) {
    const std::lock_guard lock(mutex_);
    const Notification& own = call_.notification;
    const bool interrupted = !over_ || (abandoned_ && Clock::now() - *abandoned_ < kRestartsWithin);
    return interrupted && deadline_.has_value() && own.tid == other.tid && own.nr == other.nr &&
           std::ranges::equal(own.args, other.args);
  }

 private:
  std::chrono::milliseconds ArmLocked() {
    const Wait wait = operation_->wait();
    if (wait.events == 0) {
      return wait.retry;
    }
    epoll_event event = {};
    event.events = wait.events | EPOLLONESHOT;
    event.data.u64 = key_;
    const int fd = operation_->socket_fd();
    const int how = armed_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(epoll_fd_, how, fd, &event) != 0) {
      // What cannot be waited for is simply tried again.
      return std::max(wait.retry, std::chrono::milliseconds(10));
    }
    armed_ = true;
    return wait.retry;
  }

  void AbandonLocked() {
    if (over_) {
      return;
    }
    over_ = true;
    abandoned_ = Clock::now();
    core_->CountWaiting(-1);
    if (on_thread_) {
      core_->Forget(call_);
      return;  // its thread is using the operation
    }
    if (auto answer = operation_->Abandon(); answer) {
      core_->KeepForReplay(call_, std::move(*answer), operation_->socket_fd());
    }
    Release();
    core_->Forget(call_);
  }

  void End(Answer answer) {
    over_ = true;
    core_->CountWaiting(-1);
    const uint64_t cookie = answer.performed ? SocketCookie(operation_->socket_fd()) : 0;
    Release();
    core_->Deliver(call_, std::move(answer), cookie);
    core_->Forget(call_);
  }

  // Closes the pinned descriptors at once: as long as they are open, the container's close(2) does
  // not close the connection. epoll(7), Q6: the registration would stay with the open file.
  void Release() {
    if (armed_) {
      epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, operation_->socket_fd(), nullptr);
    }
    operation_.reset();
  }

  const uint64_t key_;
  const int epoll_fd_;
  const std::shared_ptr<SessionCore> core_;
  const GuardedCall call_;
  const bool on_thread_;
  std::optional<Clock::time_point> deadline_;
  std::mutex mutex_;
  std::unique_ptr<Operation> operation_;
  bool armed_ = false;
  bool over_ = false;
  std::optional<Clock::time_point> abandoned_;
  bool left_ = false;  // only the reactor's
};

namespace {

constexpr std::chrono::milliseconds kSweepInterval{50};
constexpr uint64_t kWakeKey = 0;

// Each waiting call holds a duplicate of its socket. One session may have so many of them, and all
// sessions together half of the agent's descriptors, but each some in any case.
constexpr size_t kMaxWaitingOfSession = 4096;
constexpr size_t kWaitingAlwaysAllowed = 32;
constexpr size_t kMaxSpareRings = 16;

size_t MaxWaiting() {
  rlimit limit = {};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur / 2 : kMaxWaitingOfSession;
}

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
      (void)blocking_.Interrupt(pending->key());  // the sweep repeats it as long as it is needed
    }
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
      if (Clock::now() >= next_sweep) {
        Sweep();
        next_sweep = Clock::now() + kSweepInterval;
      }
      calls_in_all_.store(calls_.size());
    }
    for (auto& [key, pending] : calls_) {
      pending->TryAbandon();
    }
    blocking_.InterruptAll();
  }

  [[nodiscard]] int PollTimeout() const {
    if (calls_.empty()) {
      return -1;
    }
    auto left = kSweepInterval;
    if (!timers_.empty()) {
      const auto until =
          std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
      left = std::clamp(until, std::chrono::milliseconds(0), left);
    }
    return static_cast<int>(left.count());
  }

  void TakeInbox() {
    std::vector<std::shared_ptr<PendingCall>> fresh;
    std::vector<std::pair<uint64_t, std::chrono::milliseconds>> retries;
    {
      const std::lock_guard lock(inbox_mutex_);
      fresh.swap(inbox_);
      retries.swap(retries_);
    }
    for (const auto& [key, delay] : retries) {
      RetryAfter(key, delay);
    }
    for (auto& pending : fresh) {
      const uint64_t key = pending->key();
      calls_.emplace(key, pending);
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
        RetryAfter(key, retry);
      }
    }
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
    steps_.Run(pending->owner(), next_step_++, [pending, step = std::move(step)] {
      SetEffectiveCapabilities(kPerformerCapabilities);
      step(*pending);
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
      retries_.emplace_back(pending.key(), retry);
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
    while (!timers_.empty() && timers_.begin()->first <= now) {
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
  void Sweep() {
    for (auto it = calls_.begin(); it != calls_.end();) {
      PendingCall& pending = *it->second;
      const PendingCall::Due due = pending.Sweep();
      if (due == PendingCall::Due::kLeft && !pending.on_thread()) {
        if (pending.SetLeft()) {
          RunAside(it->second, [](PendingCall& left) { left.Abandon(); });
        }
        ++it;
        continue;
      }
      if (due == PendingCall::Due::kLeft) {
        pending.TryAbandon();  // which leaves the operation to its thread
      }
      const bool over = due != PendingCall::Due::kNothing &&
                        !(pending.on_thread() && blocking_.Interrupt(pending.key()));
      it = over ? calls_.erase(it) : std::next(it);
    }
  }

  UniqueFd epoll_;
  UniqueFd wake_;
  const bool use_io_uring_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> next_key_{kWakeKey + 1};
  std::atomic<size_t> calls_in_all_{0};
  const size_t max_waiting_ = MaxWaiting();
  std::mutex inbox_mutex_;
  std::vector<std::shared_ptr<PendingCall>> inbox_;
  std::vector<std::pair<uint64_t, std::chrono::milliseconds>> retries_;
  std::vector<std::unique_ptr<UringCalls>> spare_rings_;
  // The loop's own:
  uint64_t next_step_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<PendingCall>> calls_;
  std::set<std::pair<Clock::time_point, uint64_t>> timers_;
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
