#include "agent/session/quiet_sessions.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agent/caller/identity.h"
#include "agent/server/wakeable_epoll.h"

namespace oakum::agent {

namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr uint64_t kWakeKey = 0;
// How often sessions are looked at, in the time after which they are quiet.
constexpr int kLooks = 5;
// A thread that ends is soon gone; that another one can be started takes longer.
constexpr milliseconds kJoinAgain{1};
constexpr milliseconds kStartAgain{10};
// When so many have gone quiet, the memory that they leave is given back: what threads allocate
// stays with the C library otherwise (malloc_trim(3)).
constexpr size_t kTrimAfter = 64;

class EpollQuietSessions final : public QuietSessions {
 public:
  EpollQuietSessions(milliseconds quiet_after, const Log& log, WakeableEpoll waits)
      : interval_(std::max(milliseconds(1), quiet_after / kLooks)),
        log_(log),
        waits_(std::move(waits)) {
    thread_ = std::thread([this] { Loop(); });
  }
  ~EpollQuietSessions() override { Stop(); }

  void Add(uint64_t number, Session& session) override {
    {
      const std::lock_guard lock(mutex_);
      sessions_.emplace(number, Watched{.session = &session});
      ++awake_;
    }
    WakeUp();
  }

  void Remove(uint64_t number) override {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(number);
    if (found == sessions_.end()) {
      return;
    }
    Leave(found->second);
    starved_.erase(number);
    std::erase(resting_, number);
    sessions_.erase(found);
  }

  void Rests(uint64_t number) override {
    {
      const std::lock_guard lock(mutex_);
      const auto found = sessions_.find(number);
      if (found == sessions_.end()) {
        return;  // it is being removed
      }
      Leave(found->second);
      found->second.state = State::kResting;
      resting_.push_back(number);
    }
    WakeUp();
  }

  void Stop() override {
    if (thread_.joinable()) {
      stopping_.store(true);
      WakeUp();
      thread_.join();
    }
  }

 private:
  enum class State : uint8_t {
    kAwake,    // has a thread
    kResting,  // has one that ends
    kQuiet,    // has none: its listener is waited for
    kStarved,  // is to have one
  };
  struct Watched {
    Session* session;
    State state = State::kAwake;
    uint64_t calls = 0;  // when it was last looked at
    int looks = 0;       // since it has received something
  };

  void WakeUp() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(waits_.wake.get(), &one, sizeof one);
  }

  void Loop() {
    pthread_setname_np(pthread_self(), "quiet");
    SetEffectiveCapabilities(0);  // a session's thread takes what it needs
    std::array<epoll_event, 64> events;
    auto next_look = SteadyClock::now() + interval_;
    while (!stopping_.load()) {
      const int count = epoll_wait(waits_.epoll.get(), events.data(),
                                   static_cast<int>(events.size()), Timeout(next_look));
      bool trim = false;
      {
        const std::lock_guard lock(mutex_);
        for (int i = 0; i < count; ++i) {
          Take(events[static_cast<size_t>(i)]);
        }
        JoinResting();
        for (const uint64_t number : std::vector(starved_.begin(), starved_.end())) {
          Wake(number, sessions_.at(number));
        }
        if (const auto now = SteadyClock::now(); now >= next_look) {
          LookAtAwake();
          next_look = now + interval_;
        }
        trim = resting_.empty() && gone_quiet_ >= kTrimAfter;
        gone_quiet_ = trim ? 0 : gone_quiet_;
      }
      if (trim) {
        malloc_trim(0);
      }
    }
  }

  [[nodiscard]] int Timeout(SteadyClock::time_point next_look) const {
    const std::lock_guard lock(mutex_);
    if (!resting_.empty()) {
      return static_cast<int>(kJoinAgain.count());
    }
    if (!starved_.empty()) {
      return static_cast<int>(kStartAgain.count());
    }
    if (awake_ == 0) {
      return -1;
    }
    const auto left = std::chrono::ceil<milliseconds>(next_look - SteadyClock::now());
    return static_cast<int>(std::clamp(left, milliseconds(0), interval_).count());
  }

  // All that follow: under mutex_.
  void Take(const epoll_event& event) {
    if (event.data.u64 == kWakeKey) {
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t got = read(waits_.wake.get(), &ignored, sizeof ignored);
      return;
    }
    const auto found = sessions_.find(event.data.u64);
    if (found == sessions_.end() || found->second.state != State::kQuiet) {
      return;
    }
    if ((event.events & EPOLLIN) != 0) {
      Leave(found->second);
      Wake(found->first, found->second);
    } else {
      // Every task of its filter has gone: whoever owns the session sees to it.
      Unwatch(*found->second.session);
    }
  }

  // Takes a session out of the state that it is in; the next one is to be set.
  void Leave(const Watched& watched) {
    if (watched.state == State::kQuiet) {
      Unwatch(*watched.session);
    } else if (watched.state == State::kAwake) {
      --awake_;
    }
  }

  void Unwatch(const Session& session) const {
    epoll_ctl(waits_.epoll.get(), EPOLL_CTL_DEL, session.core()->notify().fd(), nullptr);
  }

  void Wake(uint64_t number, Watched& watched) {
    if (auto started = watched.session->Wake(); !started) {
      if (watched.state != State::kStarved) {
        log_.Warning("session {}: {}; its calls wait until that is possible", number,
                     started.error().ToString());
        watched.state = State::kStarved;
        starved_.insert(number);
      }
      return;
    }
    starved_.erase(number);
    watched.state = State::kAwake;
    watched.calls = watched.session->core()->calls();
    watched.looks = 0;
    ++awake_;
  }

  void JoinResting() {
    std::vector<uint64_t> left;
    for (const uint64_t number : resting_) {
      Watched& watched = sessions_.at(number);
      if (!watched.session->Join()) {
        left.push_back(number);
        continue;
      }
      // What has come meanwhile is told at once: the event is of the level.
      epoll_event event = {};
      event.events = EPOLLIN;
      event.data.u64 = number;
      if (epoll_ctl(waits_.epoll.get(), EPOLL_CTL_ADD, watched.session->core()->notify().fd(),
                    &event) == 0) {
        watched.state = State::kQuiet;
        ++gone_quiet_;
      } else {
        Wake(number, watched);  // epoll_ctl(2), ENOSPC: this user waits for too many descriptors
      }
    }
    resting_ = std::move(left);
  }

  void LookAtAwake() {
    for (auto& [number, watched] : sessions_) {
      if (watched.state != State::kAwake) {
        continue;
      }
      const uint64_t calls = watched.session->core()->calls();
      watched.looks = calls == watched.calls ? watched.looks + 1 : 0;
      watched.calls = calls;
      if (watched.looks > kLooks) {
        (void)watched.session->AskToRest();
      }
    }
  }

  const milliseconds interval_;
  const Log& log_;
  const WakeableEpoll waits_;
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Watched> sessions_;
  size_t awake_ = 0;
  std::vector<uint64_t> resting_;
  std::set<uint64_t> starved_;
  size_t gone_quiet_ = 0;  // since memory was given back; the loop's own
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace

Expected<std::unique_ptr<QuietSessions>> QuietSessions::Create(milliseconds quiet_after,
                                                               const Log& log) {
  auto waits = WakeableEpoll::Create(kWakeKey);
  if (!waits) {
    return std::unexpected(std::move(waits.error()));
  }
  try {
    return std::make_unique<EpollQuietSessions>(quiet_after, log, std::move(*waits));
  } catch (const std::system_error& error) {
    return ErrnoError(error.code().value(), "start a thread");
  }
}

}  // namespace oakum::agent
