// A call that waits, on the reactor's side.
#ifndef OAKUM_AGENT_SESSION_PENDING_CALL_H_
#define OAKUM_AGENT_SESSION_PENDING_CALL_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/calls/operation.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

// Shared by the session thread that may cancel it and the threads that go on with it. The epoll
// instance outlives every PendingCall that is armed in it.
class PendingCall {
 public:
  PendingCall(uint64_t key, int epoll_fd, std::shared_ptr<SessionCore> core,
              const GuardedCall& call, std::unique_ptr<Operation> operation);
  ~PendingCall() = default;
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  [[nodiscard]] uint64_t key() const { return key_; }
  [[nodiscard]] const SessionCore* owner() const { return core_.get(); }
  [[nodiscard]] pid_t tid() const { return call_.notification.tid; }
  [[nodiscard]] bool on_thread() const { return on_thread_; }
  // Whoever sets it first has to see that the call is given up. The reactor's thread only.
  [[nodiscard]] bool SetLeft() { return !std::exchange(left_, true); }
  // The same for a call that a signal has interrupted; before a thread that performs it is.
  [[nodiscard]] bool SetInterrupted() { return !signalled_.exchange(true); }
  [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }

  // What became of something that the reactor's thread tried to do without ever waiting.
  enum class Turn : uint8_t {
    kOver,     // answered or given up
    kWaiting,  // armed again
    kBusy,     // another thread is taking a step
  };

  // Arms what the operation waits for. `retry`: how long until it is to be tried again in any case;
  // 0: when it is ready.
  [[nodiscard]] Turn Arm(std::chrono::milliseconds& retry);
  // One step, by a thread that the container may hold up.
  [[nodiscard]] Turn Advance(const Stepper& stepper, std::chrono::milliseconds& retry);
  void RunBlocking();
  // By a thread that the container may hold up.
  void TimeOut();
  // Answers a caller that a signal wants to have out of its call though its filter does not let it
  // leave (SleepsThroughSignals()): as natively, with what has been done so far, or so that the
  // kernel makes the call again or says EINTR (signal(7)). By a thread that the container may hold
  // up. Where a thread performs the call, that has to be interrupted then.
  void Interrupt();

  // What there is to do for the reactor's thread.
  enum class Due : uint8_t {
    kNothing,
    kLeft,    // its caller has left: somebody has to give it up
    kForget,  // it is over
  };
  [[nodiscard]] Due Sweep();
  [[nodiscard]] bool IsOver();
  // Gives the call up; waits for a step that is being taken.
  void Abandon();
  // The same, unless a step is being taken.
  void TryAbandon();
  // Whether no thread performs the call, or none any more within `moment`.
  [[nodiscard]] bool WaitForThread(std::chrono::milliseconds moment);
  // Whether `other` is this call made again by the same thread, and its socket sets a time limit.
  [[nodiscard]] bool IsTimedWaitOf(const Notification& other);

 private:
  std::chrono::milliseconds ArmLocked();
  void AbandonLocked();
  void End(Answer answer);
  // The answer to a caller that is interrupted before anything was done.
  [[nodiscard]] Answer InterruptedAnswer() const;
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
  std::condition_variable thread_ended_;
  std::unique_ptr<Operation> operation_;
  bool armed_ = false;
  bool over_ = false;
  bool running_ = false;  // a thread performs it
  std::optional<Clock::time_point> abandoned_;
  bool left_ = false;  // only the reactor's
  std::atomic<bool> signalled_{false};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_PENDING_CALL_H_
