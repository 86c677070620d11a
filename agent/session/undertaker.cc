#include "agent/session/undertaker.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

namespace oakum::agent {

Undertaker::Undertaker(WakeableEpoll waits, Duties duties)
    : waits_(std::move(waits)), duties_(std::move(duties)) {
  thread_ = std::thread([this] { Loop(); });
}

Undertaker::~Undertaker() { Stop(); }

int Undertaker::Watch(uint64_t number, int listener_fd) const {
  epoll_event event = {};
  event.data.u64 = number;  // no events: EPOLLHUP is always reported
  return epoll_ctl(waits_.epoll.get(), EPOLL_CTL_ADD, listener_fd, &event) == 0 ? 0 : errno;
}

void Undertaker::Unwatch(int listener_fd) const {
  epoll_ctl(waits_.epoll.get(), EPOLL_CTL_DEL, listener_fd, nullptr);
}

void Undertaker::Ended(uint64_t number) {
  {
    const std::lock_guard lock(mutex_);
    ended_.push_back(number);
  }
  Wake();
}

void Undertaker::Stop() {
  if (thread_.joinable()) {
    stopping_.store(true);
    Wake();
    thread_.join();
  }
}

void Undertaker::Wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(waits_.wake.get(), &one, sizeof one);
}

void Undertaker::Loop() {
  std::array<epoll_event, 64> events;
  while (!stopping_.load()) {
    const int count =
        epoll_wait(waits_.epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const uint64_t key = events[static_cast<size_t>(i)].data.u64;
      if (key == kWakeKey) {
        uint64_t ignored = 0;
        [[maybe_unused]] const ssize_t got = read(waits_.wake.get(), &ignored, sizeof ignored);
        BuryEnded();
      } else {
        duties_.hung_up(key);
        // The hang-up stays until the listener is closed; who is told needs a moment to get there.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }
}

void Undertaker::BuryEnded() {
  std::vector<uint64_t> ended;
  {
    const std::lock_guard lock(mutex_);
    ended.swap(ended_);
  }
  for (const uint64_t number : ended) {
    duties_.bury(number);
  }
}

}  // namespace oakum::agent
