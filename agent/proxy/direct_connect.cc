#include "agent/proxy/direct_connect.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <deque>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/calls/inet_destination.h"
#include "agent/proxy/direct_handshake.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

// Whether a session's thread itself waits for a proxy's answer: handing the handshake over to the
// reactor's wakes threads up, which takes longer than a proxy that is near. Thread-safe.
class Patience {
 public:
  [[nodiscard]] bool Try() {
    return credit_.load(std::memory_order_relaxed) > 0 ||
           skipped_.fetch_add(1, std::memory_order_relaxed) % kTryAgain == 0;
  }
  // Returns `worked`: whether the answer came in time.
  bool Tried(bool worked) {
    const int credit = credit_.load(std::memory_order_relaxed);
    credit_.store(worked ? std::min(credit + 1, kMaxCredit) : std::max(credit - 2, 0),
                  std::memory_order_relaxed);
    return worked;
  }

 private:
  static constexpr int kMaxCredit = 16;
  static constexpr unsigned kTryAgain = 64;  // one in so many of those that are not worth it

  std::atomic<int> credit_{kMaxCredit};
  std::atomic<unsigned> skipped_{1};
};

// Shared with the operations and with what runs aside, which may end after DirectConnects.
class DirectRegistry : public std::enable_shared_from_this<DirectRegistry> {
 public:
  DirectRegistry(Upstreams& upstreams, RunAside run_aside)
      : upstreams_(upstreams), run_aside_(std::move(run_aside)) {}

  [[nodiscard]] Upstreams& upstreams() { return upstreams_; }
  [[nodiscard]] Patience& patience() { return patience_; }
  [[nodiscard]] bool empty() const { return size_.load(std::memory_order_acquire) == 0; }

  [[nodiscard]] std::shared_ptr<DirectHandshake> Find(uint64_t cookie) const {
    const std::lock_guard lock(mutex_);
    const auto found = by_cookie_.find(cookie);
    return found == by_cookie_.end() ? nullptr : found->second;
  }

  // What is known of that socket already; otherwise adds what `make` makes and returns that.
  template <typename Make>
  [[nodiscard]] std::pair<std::shared_ptr<DirectHandshake>, bool> FindOrAdd(uint64_t cookie,
                                                                            Make make) {
    Handshakes old;
    const std::lock_guard lock(mutex_);
    DropOld(old);
    if (const auto found = by_cookie_.find(cookie); found != by_cookie_.end()) {
      return {found->second, false};
    }
    auto added = make();
    by_cookie_.emplace(cookie, added);
    size_.store(by_cookie_.size(), std::memory_order_release);
    return {std::move(added), true};
  }

  // Its result has been told, or nobody will ask.
  void Forget(const std::shared_ptr<DirectHandshake>& handshake) {
    const std::lock_guard lock(mutex_);
    ForgetLocked(handshake);
  }

  // The caller has left: somebody else goes on, and the result is kept for the call that is made
  // again. May wait for the container.
  void Leave(const std::shared_ptr<DirectHandshake>& handshake) {
    if (!handshake->SetLeft()) {
      return;  // another caller has left it before
    }
    RunAside run_aside;
    {
      const std::lock_guard lock(mutex_);
      const auto found = by_cookie_.find(handshake->cookie());
      if (found == by_cookie_.end() || found->second != handshake) {
        return;  // another caller has been told
      }
      run_aside = run_aside_;
    }
    if (handshake->over()) {
      return KeepResult(handshake);
    }
    if (!run_aside || !run_aside(handshake->owner(), [self = shared_from_this(), handshake] {
          self->Drive(*handshake);
          self->KeepResult(handshake);
        })) {
      handshake->GiveUp();
      Forget(handshake);
    }
  }

  void Close() {
    decltype(by_cookie_) all;
    const std::lock_guard lock(mutex_);
    closed_.store(true);
    run_aside_ = nullptr;
    all.swap(by_cookie_);
    kept_.clear();
    size_.store(0, std::memory_order_release);
  }

 private:
  struct Kept {
    std::weak_ptr<DirectHandshake> handshake;
    Clock::time_point since;
  };
  using Handshakes = std::vector<std::shared_ptr<DirectHandshake>>;

  static constexpr size_t kMaxKept = 1024;
  static constexpr std::chrono::seconds kKeptFor{10};
  static constexpr std::chrono::milliseconds kLook{50};

  // To its end, on a thread of its own.
  void Drive(DirectHandshake& handshake) {
    const UniqueFd socket = handshake.DuplicateSocket();
    while (!handshake.Step(nullptr)) {
      if (closed_.load()) {
        return handshake.GiveUp();
      }
      const Wait wait = handshake.wait();
      pollfd ready = {socket.get(), static_cast<short>(wait.events), 0};
      (void)poll(&ready, 1, static_cast<int>(std::min(wait.retry, kLook).count()));
    }
  }

  // It is over without anybody who waits.
  void KeepResult(const std::shared_ptr<DirectHandshake>& handshake) {
    Handshakes old;
    const std::lock_guard lock(mutex_);
    kept_.push_back({handshake, Clock::now()});
    DropOld(old);
  }

  void ForgetLocked(const std::shared_ptr<DirectHandshake>& handshake) {
    const auto found = by_cookie_.find(handshake->cookie());
    if (found != by_cookie_.end() && found->second == handshake) {
      by_cookie_.erase(found);
      size_.store(by_cookie_.size(), std::memory_order_release);
    }
  }

  // They go when the lock has been given back.
  void DropOld(Handshakes& old) {
    const Clock::time_point now = Clock::now();
    while (!kept_.empty() && (kept_.size() > kMaxKept || now - kept_.front().since > kKeptFor)) {
      if (auto handshake = kept_.front().handshake.lock(); handshake) {
        ForgetLocked(handshake);
        old.push_back(std::move(handshake));
      }
      kept_.pop_front();
    }
  }

  Upstreams& upstreams_;
  Patience patience_;
  std::atomic<size_t> size_{0};
  std::atomic<bool> closed_{false};
  mutable std::mutex mutex_;
  RunAside run_aside_;
  std::unordered_map<uint64_t, std::shared_ptr<DirectHandshake>> by_cookie_;
  std::deque<Kept> kept_;
};

namespace {

class DirectOperation final : public Operation {
 public:
  DirectOperation(std::shared_ptr<DirectRegistry> registry,
                  std::shared_ptr<DirectHandshake> handshake, UniqueFd socket)
      : registry_(std::move(registry)),
        handshake_(std::move(handshake)),
        socket_(std::move(socket)) {}
  ~DirectOperation() override { Leave(); }
  DirectOperation(const DirectOperation&) = delete;
  DirectOperation& operator=(const DirectOperation&) = delete;

  std::optional<Answer> Step(const Stepper& stepper) override {
    const auto result = handshake_->Step(stepper.uring);
    if (!result) {
      return std::nullopt;
    }
    registry_->Forget(handshake_);
    told_ = true;
    return Answer::Performed(0, *result);
  }
  Wait wait() const override { return handshake_->wait(); }
  int socket_fd() const override { return socket_.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.get(), SO_SNDTIMEO);
  }
  // connect(2) natively: the attempt goes on.
  Answer TimedOut() override {
    Leave();
    return Answer::Performed(0, EINPROGRESS);
  }
  std::optional<Answer> Abandon() override {
    Leave();
    return std::nullopt;
  }

 private:
  void Leave() {
    if (!std::exchange(told_, true)) {
      registry_->Leave(handshake_);
    }
  }

  const std::shared_ptr<DirectRegistry> registry_;
  const std::shared_ptr<DirectHandshake> handshake_;
  const UniqueFd socket_;  // a duplicate, because epoll(7) knows it by its number
  bool told_ = false;
};

// All that a container's other calls are held up for one that goes through a proxy.
constexpr std::chrono::microseconds kBriefly{500};
// How much of that the processor is kept awake for, before each answer: to wake an idle one takes
// about as long as an answer over loopback (bench/run proxies, "one by one").
constexpr std::chrono::microseconds kAwake{100};

// Whether there is something to do on the socket before `end`.
bool WaitsFor(int socket_fd, uint32_t events, Clock::time_point end) {
  pollfd ready = {socket_fd, static_cast<short>(events), 0};
  Clock::time_point now = Clock::now();
  const Clock::time_point awake_until = std::min(now + kAwake, end);
  for (; now < awake_until; now = Clock::now()) {
    if (poll(&ready, 1, 0) != 0) {
      return true;
    }
    sched_yield();  // whoever has work comes first, the proxy among them
  }
  const auto left = std::chrono::nanoseconds(end - now).count();
  const timespec timeout = {0, std::max<long>(left, 0)};
  return ppoll(&ready, 1, &timeout, nullptr) > 0;
}

// Whether the handshake has come to its end meanwhile.
bool WaitsBriefly(DirectHandshake& handshake, int socket_fd, UringCalls& uring) {
  const Clock::time_point end = Clock::now() + kBriefly;
  while (WaitsFor(socket_fd, handshake.wait().events, end)) {
    if (handshake.Step(&uring)) {
      return true;
    }
  }
  return false;
}

}  // namespace

DirectConnects::DirectConnects(Upstreams& upstreams, RunAside run_aside)
    : registry_(std::make_shared<DirectRegistry>(upstreams, std::move(run_aside))) {}

DirectConnects::~DirectConnects() { Close(); }

void DirectConnects::Close() { registry_->Close(); }

bool DirectConnects::Busy(int socket_fd) const {
  if (registry_->empty()) {
    return false;
  }
  const auto found = registry_->Find(SocketCookie(socket_fd));
  return found && !found->over();
}

DirectStart DirectConnects::Begin(UniqueFd socket, int domain, DirectRequest request,
                                  UringCalls& uring) {
  DirectStart start;
  const uint64_t cookie = SocketCookie(socket.get());
  UniqueFd duplicate(fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (cookie == 0 || !duplicate) {
    start.fallback = true;
    start.socket = std::move(socket);
    start.request = std::move(request);
    return start;
  }
  const ProxyTarget target = request.target;
  const auto make = [&] {
    return std::make_shared<DirectHandshake>(registry_->upstreams(), std::move(duplicate), domain,
                                             cookie, std::move(request));
  };
  auto [handshake, added] = registry_->FindOrAdd(cookie, make);
  if (!added && handshake->over()) {
    registry_->Forget(handshake);
    if (handshake->LeadsTo(target)) {
      start.error = handshake->result();
      return start;
    }
    std::tie(handshake, added) = registry_->FindOrAdd(cookie, make);
  }
  if (!added) {
    if (handshake->LeadsTo(target)) {
      start.operation = std::make_unique<DirectOperation>(registry_, handshake, std::move(socket));
    } else {
      start.error = EALREADY;
    }
    return start;
  }
  DirectHandshake::Begun begun = handshake->Begin(uring);
  if (begun == DirectHandshake::Begun::kUnderWay && registry_->patience().Try() &&
      registry_->patience().Tried(WaitsBriefly(*handshake, socket.get(), uring))) {
    begun = DirectHandshake::Begun::kOver;
  }
  switch (begun) {
    case DirectHandshake::Begun::kUnderWay:
      start.operation = std::make_unique<DirectOperation>(registry_, handshake, std::move(socket));
      return start;
    case DirectHandshake::Begun::kOver:
    case DirectHandshake::Begun::kNotOurs:
      start.error = handshake->result();
      break;
    case DirectHandshake::Begun::kFallback:
      start.fallback = true;
      start.socket = std::move(socket);
      start.request = handshake->TakeRequest();
      break;
  }
  registry_->Forget(handshake);
  return start;
}

bool CanConnectDirectly(const policy::Proxy& proxy, bool same_netns) {
  switch (proxy.from) {
    case policy::ProxyFrom::kHost:
      if (!same_netns) {
        return false;
      }
      break;
    case policy::ProxyFrom::kAuto:
    case policy::ProxyFrom::kContainer:
      break;
  }
  return std::ranges::all_of(proxy.urls, [&](const policy::ProxyUrl& url) {
    const bool reached = same_netns || proxy.from == policy::ProxyFrom::kContainer ||
                         (url.endpoint && !IsLoopback(url.endpoint->ip));
    const bool secret = !url.user.empty() && proxy.isolate == policy::Isolation::kNone;
    return url.endpoint && !SpeaksTls(url) && reached && !secret;
  });
}

}  // namespace oakum::agent
