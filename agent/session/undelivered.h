// Results of calls whose caller was interrupted between the act and the answer.
#ifndef OAKUM_AGENT_SESSION_UNDELIVERED_H_
#define OAKUM_AGENT_SESSION_UNDELIVERED_H_

#include <atomic>
#include <list>
#include <mutex>
#include <optional>

#include "agent/calls/operation.h"

namespace oakum::agent {

// A signal makes the kernel forget a notification and, with SA_RESTART, issue the call again
// (seccomp_unotify(2), "Caveats regarding blocking system calls"). Natively the call would have
// been over: so the second one gets the first one's result instead of being performed twice.
// Bounded in number and time: what nobody asks for is dropped, the oldest first.
class Undelivered {
 public:
  void Keep(const GuardedCall& call, uint64_t socket_cookie, Answer answer);
  // The result kept for the same thread, call, arguments and socket.
  [[nodiscard]] std::optional<Answer> Take(const GuardedCall& call, uint64_t socket_cookie);
  // Cheap and unlocked: 0 when there is surely nothing from this thread's point of view.
  [[nodiscard]] size_t size_hint() const { return size_.load(std::memory_order_acquire); }

 private:
  static constexpr size_t kMaxKept = 256;
  static constexpr std::chrono::seconds kLifetime{10};

  struct Entry {
    Notification call;
    uint64_t socket_cookie;
    Clock::time_point since;
    Answer answer;
  };
  void DropExpired();

  std::mutex mutex_;
  std::list<Entry> entries_;  // takes nothing while it is empty
  std::atomic<size_t> size_{0};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_UNDELIVERED_H_
