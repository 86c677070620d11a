#include "agent/session/pending_call.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>

namespace oakum::agent {

namespace {

// A call that a signal interrupted is made again when the handler has returned.
constexpr std::chrono::milliseconds kRestartsWithin{250};

}  // namespace

PendingCall::PendingCall(uint64_t key, int epoll_fd, std::shared_ptr<SessionCore> core,
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

PendingCall::Turn PendingCall::Arm(std::chrono::milliseconds& retry) {
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

PendingCall::Turn PendingCall::Advance(const Stepper& stepper, std::chrono::milliseconds& retry) {
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

void PendingCall::RunBlocking() {
  {
    const std::lock_guard lock(mutex_);
    if (over_) {
      // Its caller had left before a thread was there. It may be making the call again by now.
      Release();
      return;
    }
    running_ = true;
  }
  Answer answer = operation_->RunBlocking();
  const std::lock_guard lock(mutex_);
  if (!over_) {
    End(signalled_.load() && answer.error == EINTR ? InterruptedAnswer() : std::move(answer));
  } else {
    // EINTR here is our own request to give up: the caller has left.
    if (answer.performed && answer.error != EINTR) {
      core_->KeepForReplay(call_, std::move(answer), operation_->socket_fd());
    }
    Release();
  }
  running_ = false;
  thread_ended_.notify_all();
}

void PendingCall::TimeOut() {
  const std::lock_guard lock(mutex_);
  if (!over_) {
    End(operation_->TimedOut());
  }
}

void PendingCall::Interrupt() {
  const std::lock_guard lock(mutex_);
  if (over_ || running_) {
    return;  // its thread is using the operation
  }
  auto done = operation_->Abandon();
  End(done ? std::move(*done) : InterruptedAnswer());
}

Answer PendingCall::InterruptedAnswer() const {
  // sock_intr_errno(), include/net/sock.h
  return deadline_ ? Answer::Error(EINTR) : Answer::Restart();
}

PendingCall::Due PendingCall::Sweep() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) {
    return Due::kNothing;  // a step is being taken
  }
  if (over_) {
    return Due::kForget;
  }
  return core_->notify().IdValid(call_.notification.id) ? Due::kNothing : Due::kLeft;
}

bool PendingCall::IsOver() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  return lock && over_;
}

void PendingCall::Abandon() {
  const std::lock_guard lock(mutex_);
  AbandonLocked();
}

void PendingCall::TryAbandon() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock) {
    AbandonLocked();
  }
}

bool PendingCall::WaitForThread(std::chrono::milliseconds moment) {
  std::unique_lock lock(mutex_);
  return thread_ended_.wait_for(lock, moment, [this] { return !running_; });
}

bool PendingCall::IsTimedWaitOf(const Notification& other) {
  const std::lock_guard lock(mutex_);
  const Notification& own = call_.notification;
  const bool interrupted = !over_ || (abandoned_ && Clock::now() - *abandoned_ < kRestartsWithin);
  return interrupted && deadline_.has_value() && own.tid == other.tid && own.nr == other.nr &&
         std::ranges::equal(own.args, other.args);
}

std::chrono::milliseconds PendingCall::ArmLocked() {
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

void PendingCall::AbandonLocked() {
  if (over_) {
    return;
  }
  over_ = true;
  abandoned_ = Clock::now();
  core_->CountWaiting(-1);
  core_->NoteInterrupted();
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

void PendingCall::End(Answer answer) {
  over_ = true;
  core_->CountWaiting(-1);
  const uint64_t cookie = answer.performed ? SocketCookie(operation_->socket_fd()) : 0;
  Release();
  core_->Deliver(call_, std::move(answer), cookie);
  core_->Forget(call_);
}

void PendingCall::Release() {
  if (armed_) {
    epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, operation_->socket_fd(), nullptr);
  }
  operation_.reset();
}

}  // namespace oakum::agent
