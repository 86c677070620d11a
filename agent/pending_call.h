// One call that waits: shared by the session thread that may cancel it and the thread that goes on
// with it.
#ifndef OAKUM_AGENT_PENDING_CALL_H_
#define OAKUM_AGENT_PENDING_CALL_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/operation.h"
#include "agent/session_core.h"

namespace oakum::agent {

// The epoll instance outlives every PendingCall that is armed in it. Thread-safe but for what says
// otherwise.
class PendingCall {
 public:
  // `key`: epoll_event::data.u64 of what it waits for.
  PendingCall(uint64_t key, int epoll_fd, std::shared_ptr<SessionCore> core,
              const GuardedCall& call, std::unique_ptr<Operation> operation);
  ~PendingCall() = default;
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  [[nodiscard]] uint64_t key() const { return key_; }
  [[nodiscard]] const SessionCore* owner() const { return core_.get(); }
  [[nodiscard]] bool on_thread() const { return on_thread_; }
  // Whoever sets it first has to see that the call is given up. The reactor's thread only.
  [[nodiscard]] bool SetLeft() { return !std::exchange(left_, true); }
  [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }

  // What became of something that was tried.
  enum class Turn : uint8_t {
    kOver,     // answered or given up
    kWaiting,  // armed again
    kBusy,     // another thread is taking a step
  };

  // Arms what the operation waits for, without ever waiting. `retry`: how long until it is to be
  // tried again in any case; 0: when it is ready.
  [[nodiscard]] Turn Arm(std::chrono::milliseconds& retry);
  // One step, by a thread that the container may hold up.
  [[nodiscard]] Turn Advance(const Stepper& stepper, std::chrono::milliseconds& retry);
  // All of it, by a thread of its own.
  void RunBlocking();
  // By a thread that the container may hold up.
  void TimeOut();

  // What there is to do for whoever looks after it.
  enum class Due : uint8_t {
    kNothing,
    kLeft,    // its caller has left: somebody has to give it up
    kForget,  // it is over
  };
  // Asks the kernel whether the caller still waits, which takes the longer the more calls of the
  // container wait (find_notification(), kernel/seccomp.c).
  [[nodiscard]] Due Sweep();
  [[nodiscard]] bool IsOver();
  // Gives the call up; waits for a step that is being taken.
  void Abandon();
  // The same, unless a step is being taken.
  void TryAbandon();
  // Whether `other` is this call made again by the same thread, and its socket sets a time limit.
  [[nodiscard]] bool IsTimedWaitOf(const Notification& other);

 private:
  std::chrono::milliseconds ArmLocked();
  void AbandonLocked();
  void End(Answer answer);
  // Closes the pinned descriptors at once: as long as they are open, the container's close(2) does
  // not close the connection. epoll(7), Q6: the registration would stay with the open file.
  void Release();

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

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PENDING_CALL_H_
