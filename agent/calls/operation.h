// One call that is being performed for a container, as a state machine that never waits itself.
#ifndef OAKUM_AGENT_CALLS_OPERATION_H_
#define OAKUM_AGENT_CALLS_OPERATION_H_

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "agent/caller/process_info.h"
#include "agent/caller/sockaddr.h"
#include "agent/caller/syscall_table.h"
#include "agent/calls/uring_calls.h"
#include "agent/kept/journal.h"
#include "agent/session/notify_fd.h"
#include "base/unique_fd.h"

namespace oakum::agent {

using Clock = std::chrono::steady_clock;

struct EventSource;

struct GuardedCall {
  Notification notification;
  CallKind kind;
  // The container, and the policy that the whole call is decided under: one that is read meanwhile
  // is for the next call. Null: what holds when it is asked for.
  std::shared_ptr<const EventSource> source;
  // Its caller has been told, and this is about what came of it: not on a thread of the container's
  // own, so that nothing of the caller's memory may be read any more.
  bool over = false;
  JournalSlot* slot = nullptr;  // where the next agent finds it; null: nowhere
  // Read along with the arguments where an event will want it (SessionCore::LookForMark()).
  mutable ProgramMark mark;

  // The caller's descriptor that it is about.
  void Name(int socket_number) const {
    if (slot != nullptr) {
      slot->socket = socket_number;
    }
  }
  // That of the socket, if it is noted; else 0.
  [[nodiscard]] uint64_t cookie() const { return slot != nullptr ? slot->cookie : 0; }
};

// The second result of accept(2): whose the connection is, and where the caller wants to read it
// (`address` 0: nowhere).
struct PeerName {
  SockaddrCopy name;
  uint64_t address = 0;
  uint64_t length_address = 0;
};

// What the container is told.
struct Answer {
  enum class Kind : uint8_t {
    kRespond,   // `value`, or -`error`
    kContinue,  // the kernel carries the call out: audit, or decided from registers alone
    kFd,        // the number of `fd` once it is installed
    kNone,      // nothing: nobody waits for it any more
  };
  Kind kind = Kind::kRespond;
  int64_t value = 0;
  int error = 0;
  UniqueFd fd;
  uint32_t fd_flags = 0;
  bool sigpipe = false;    // EPIPE on a stream: the thread also gets SIGPIPE, as natively
  bool performed = false;  // something happened that must not happen twice
  bool harmless = false;   // connect(2) that may as well be performed twice: not of a stream
  int repeats = 0;         // how often it has been given to a call that was answered (Delivered)
  // Puts what was taken back in its place when the caller is not there to get it; then the answer
  // is not kept for a replay. For calls whose result is more than a number.
  std::unique_ptr<std::function<void()>> take_back;
  // kFd: what is still to be written into the caller's memory, because the caller had left.
  std::unique_ptr<PeerName> unwritten;

  [[nodiscard]] static Answer Error(int error) {
    Answer answer;
    answer.error = error;
    return answer;
  }
  [[nodiscard]] static Answer Value(int64_t value) {
    Answer answer;
    answer.value = value;
    return answer;
  }
  [[nodiscard]] static Answer Continue() {
    Answer answer;
    answer.kind = Kind::kContinue;
    return answer;
  }
  [[nodiscard]] static Answer None() {
    Answer answer;
    answer.kind = Kind::kNone;
    return answer;
  }
  // To a caller that a signal interrupts before anything was done: the kernel makes the call again,
  // or says EINTR, as the signal's handler wants it (SA_RESTART). Only for a caller of which it is
  // sure that TIF_SIGPENDING is set: without it the number (include/linux/errno.h) would reach the
  // program.
  [[nodiscard]] static Answer Restart() { return Error(kRestartSystemCall); }
  static constexpr int kRestartSystemCall = 512;  // ERESTARTSYS
  // The outcome of something that was performed: 0 or an errno value.
  [[nodiscard]] static Answer Performed(int64_t value, int error) {
    Answer answer;
    answer.value = value;
    answer.error = error;
    answer.performed = true;
    return answer;
  }
};

// What an operation waits for.
struct Wait {
  uint32_t events = 0;                 // EPOLLIN, EPOLLOUT on socket_fd(); 0: only time passes
  std::chrono::milliseconds retry{0};  // try again after this long; 0: only when ready
};

// Who takes a step.
struct Stepper {
  UringCalls* uring = nullptr;  // null where io_uring is switched off
  // The thread is there for this step alone: if the container sees to it that a system call waits
  // after all, it holds up nobody. False on the session's own thread, as the call begins.
  bool may_block = false;
};

class Operation {
 public:
  virtual ~Operation() = default;

  // Goes on as far as it can without waiting. Called by one thread at a time. An answer, or
  // nothing: then wait() says for what. What belongs to a container can be made to wait for as long
  // as it likes all the same: its memory and files (userfaultfd(2), fuse(4)), and its sockets,
  // whose lock a thread of its own holds that copies from such memory (lock_sock(),
  // net/core/sock.c). So all but wait() and socket_fd() is only called where none but the container
  // is held up.
  [[nodiscard]] virtual std::optional<Answer> Step(const Stepper& stepper) = 0;
  // Performs all of it, waiting as long as it takes; for threads that stand in for io_uring. EINTR
  // when the thread was signalled to give up.
  [[nodiscard]] virtual Answer RunBlocking() { return Answer::Error(EINTR); }
  // Whether Step cannot be used without io_uring.
  [[nodiscard]] virtual bool needs_thread() const { return false; }

  // These two neither wait for a lock nor make a system call.
  [[nodiscard]] virtual Wait wait() const = 0;
  // The socket to wait on; -1: none.
  [[nodiscard]] virtual int socket_fd() const = 0;
  // SO_SNDTIMEO or SO_RCVTIMEO of the socket, counted from when the call began to wait.
  [[nodiscard]] virtual std::optional<Clock::duration> timeout() const { return std::nullopt; }
  // The answer when that has passed.
  [[nodiscard]] virtual Answer TimedOut() { return Answer::Error(EAGAIN); }
  // The caller has left (signal or death). What it must be told if it makes the same call again,
  // because part of it has been done already; nothing if the call can simply be made again.
  [[nodiscard]] virtual std::optional<Answer> Abandon() { return std::nullopt; }
};

// SO_SNDTIMEO or SO_RCVTIMEO (socket(7)); nothing for "never".
[[nodiscard]] std::optional<Clock::duration> SocketTimeout(int socket_fd, int option);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_OPERATION_H_
