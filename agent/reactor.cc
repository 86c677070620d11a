#include "agent/reactor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
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

namespace oakum::agent {

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
  ~PendingCall() { core_->CountWaiting(-1); }
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  [[nodiscard]] uint64_t key() const { return key_; }
  [[nodiscard]] const SessionCore* owner() const { return core_.get(); }
  [[nodiscard]] bool on_thread() const { return on_thread_; }
  [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }
  [[nodiscard]] bool CallerWaits() const { return core_->notify().IdValid(call_.notification.id); }

  // Whether the call has been answered or given up.
  [[nodiscard]] bool over() {
    const std::lock_guard lock(mutex_);
    return over_;
  }

  // Arms what the operation waits for. How long until it is to be tried again in any case; 0: when
  // it is ready.
  [[nodiscard]] std::chrono::milliseconds Arm() {
    const std::lock_guard lock(mutex_);
    return over_ ? std::chrono::milliseconds(0) : ArmLocked();
  }

  // One step; true when the call is over, otherwise it is armed again as Arm does.
  [[nodiscard]] bool Advance(UringCalls* uring, std::chrono::milliseconds& retry) {
    const std::lock_guard lock(mutex_);
    if (over_) {
      return true;
    }
    auto answer = operation_->Step(uring);
    if (answer) {
      End(std::move(*answer));
      return true;
    }
    retry = ArmLocked();
    return false;
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

  void TimeOut() {
    const std::lock_guard lock(mutex_);
    if (!over_) {
      End(operation_->TimedOut());
    }
  }

  void Abandon() {
    const std::lock_guard lock(mutex_);
    if (over_) {
      return;
    }
    over_ = true;
    if (on_thread_) {
      return;  // its thread is using the operation
    }
    if (auto answer = operation_->Abandon(); answer) {
      core_->KeepForReplay(call_, std::move(*answer), operation_->socket_fd());
    }
    Release();
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

  void End(Answer answer) {
    over_ = true;
    core_->Deliver(call_, std::move(answer), operation_->socket_fd());
    Release();
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
};

namespace {

constexpr std::chrono::milliseconds kSweepInterval{50};
constexpr uint64_t kWakeKey = 0;

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
      (void)pool_.Interrupt(pending->key());  // the sweep repeats it as long as it is needed
    }
  }

 private:
  void Wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(wake_.get(), &one, sizeof one);
  }

  void Loop() {
    SetEffectiveCapabilities(kPerformerCapabilities);
    if (use_io_uring_) {
      if (auto uring = UringCalls::Create(); uring) {
        uring_ = std::move(*uring);
      }
    }
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
    }
    for (auto& [key, pending] : calls_) {
      pending->Abandon();
    }
    pool_.InterruptAll();
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
    {
      const std::lock_guard lock(inbox_mutex_);
      fresh.swap(inbox_);
    }
    for (auto& pending : fresh) {
      const uint64_t key = pending->key();
      calls_.emplace(key, pending);
      if (pending->on_thread()) {
        pool_.Run(pending->owner(), key, [pending] { pending->RunBlocking(); });
        continue;
      }
      if (pending->deadline()) {
        timers_.emplace(*pending->deadline(), key);
      }
      RetryAfter(key, pending->Arm());
    }
  }

  void RetryAfter(uint64_t key, std::chrono::milliseconds delay) {
    if (delay.count() > 0) {
      timers_.emplace(Clock::now() + delay, key);
    }
  }

  void Advance(uint64_t key) {
    const auto found = calls_.find(key);
    if (found == calls_.end()) {
      return;
    }
    std::chrono::milliseconds retry{0};
    if (found->second->Advance(uring_.get(), retry)) {
      calls_.erase(found);
    } else {
      RetryAfter(key, retry);
    }
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
      if (deadline && *deadline <= now) {
        found->second->TimeOut();
        calls_.erase(found);
      } else {
        Advance(key);
      }
    }
  }

  // Finds calls whose caller has been interrupted or has died: the kernel does not tell.
  void Sweep() {
    for (auto it = calls_.begin(); it != calls_.end();) {
      PendingCall& pending = *it->second;
      if (!pending.over() && !pending.CallerWaits()) {
        pending.Abandon();
      }
      const bool stays =
          pending.on_thread() ? !pending.over() || pool_.Interrupt(pending.key()) : !pending.over();
      it = stays ? std::next(it) : calls_.erase(it);
    }
  }

  UniqueFd epoll_;
  UniqueFd wake_;
  const bool use_io_uring_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> next_key_{kWakeKey + 1};
  std::mutex inbox_mutex_;
  std::vector<std::shared_ptr<PendingCall>> inbox_;
  // The loop's own:
  std::unique_ptr<UringCalls> uring_;
  std::unordered_map<uint64_t, std::shared_ptr<PendingCall>> calls_;
  std::set<std::pair<Clock::time_point, uint64_t>> timers_;
  BlockingPool pool_;
  std::thread thread_;
};

}  // namespace

Expected<std::unique_ptr<Reactor>> Reactor::Create(bool use_io_uring) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) {
    return ErrnoError("epoll_create1");
  }
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) {
    return ErrnoError("eventfd");
  }
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kWakeKey;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return ErrnoError("epoll_ctl");
  }
  return std::make_unique<EpollReactor>(std::move(epoll), std::move(wake), use_io_uring);
}

}  // namespace oakum::agent
