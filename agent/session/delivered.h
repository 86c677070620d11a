// Answers that the kernel has taken, and may have thrown away.
#ifndef OAKUM_AGENT_SESSION_DELIVERED_H_
#define OAKUM_AGENT_SESSION_DELIVERED_H_

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "agent/session/notify_fd.h"

namespace oakum::agent {

// A caller that has decided to leave its call for a signal, and waits for the filter's lock while
// the answer is being sent, throws that away (SessionCore::LetSettle()): it makes the same call
// again, although it was answered. Nothing tells such a call from a second one of the program's.
// For connect(2) it does not have to be told: a second one on the same socket, by the same thread
// and from the same place, with nothing guarded in between, is answered as the first one was. So
// the last connect of each thread is remembered until its next guarded call, and given kMostRepeats
// times: a program that calls until it is told EISCONN is told it then.
class Delivered {
 public:
  static constexpr int kMostRepeats = 3;

  struct Result {
    uint64_t socket_cookie = 0;
    int64_t value = 0;
    int error = 0;
    int repeats = 0;
  };

  void Remember(const Notification& call, const Result& result);
  // What was remembered for the thread that makes `call`, if it is the same call; it is forgotten
  // in any case. Cheap while nothing has been remembered.
  [[nodiscard]] std::optional<Result> TakeSame(const Notification& call) {
    return any_.load(std::memory_order_acquire) ? Take(call) : std::nullopt;
  }

  // All of it.
  void Forget();

 private:
  // By thread id; one with the same remainder takes another's place.
  static constexpr size_t kPlaces = 64;
  struct Place {
    Notification call;
    Result result;
  };

  using Places = std::array<Place, kPlaces>;

  [[nodiscard]] std::optional<Result> Take(const Notification& call);
  [[nodiscard]] Place& PlaceOf(pid_t tid) { return (*places_)[static_cast<size_t>(tid) % kPlaces]; }

  std::atomic<bool> any_{false};  // whether there are places
  std::mutex mutex_;
  std::unique_ptr<Places> places_;  // made for the first one: a container that is idle has none
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_DELIVERED_H_
