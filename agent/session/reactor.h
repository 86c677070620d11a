// Waits on behalf of calls that cannot be answered at once.
#ifndef OAKUM_AGENT_SESSION_REACTOR_H_
#define OAKUM_AGENT_SESSION_REACTOR_H_

#include <memory>

#include "agent/calls/operation.h"
#include "agent/session/session_core.h"
#include "base/error.h"

namespace oakum::agent {

// One call that waits: shared by the session thread that may cancel it and the thread that goes on
// with it.
class PendingCall;

// One thread with an epoll instance for all sessions. It never touches a container's memory, files
// or sockets and waits for no lock that is held while somebody does, so no call holds up another:
// steps are taken by a pool of threads. Calls whose caller has left are found within
// kSweepInterval, or later where so many wait that finding out takes long (kSweepPause).
class Reactor {
 public:
  // `use_io_uring` false: operations that need it run on threads of their own, at most
  // kMaxBlockingThreads of them, kMaxBlockingThreadsPerSession for one session; others queue.
  // Errors: epoll_create1(2)'s, eventfd(2)'s, pthread_create(3)'s.
  [[nodiscard]] static Expected<std::unique_ptr<Reactor>> Create(bool use_io_uring);
  virtual ~Reactor() = default;

  // Whether one more call of that session may wait. Beyond the bounds calls fail with ENOBUFS, so
  // that a container of hanging calls cannot use up the agent's descriptors.
  [[nodiscard]] virtual bool HasRoomFor(const SessionCore& core) const = 0;
  // Takes over an operation that has said what it waits for (or needs a thread). The answer is
  // delivered when it ends.
  [[nodiscard]] virtual std::shared_ptr<PendingCall> Add(std::shared_ptr<SessionCore> core,
                                                         const GuardedCall& call,
                                                         std::unique_ptr<Operation> operation) = 0;
  // The caller has made another call, so it cannot be waiting for this one any more. When this
  // returns, nothing more happens on its behalf and what it had done is kept for a replay.
  virtual void Cancel(const std::shared_ptr<PendingCall>& pending) = 0;
  // Whether the call has surely been answered or given up.
  [[nodiscard]] virtual bool IsOver(const std::shared_ptr<PendingCall>& pending) const = 0;
  // Whether `call` is that one made again while it was waiting under SO_SNDTIMEO or SO_RCVTIMEO.
  // signal(7): such calls are not restarted, whatever SA_RESTART says; they fail with EINTR.
  [[nodiscard]] virtual bool WasTimedWait(const std::shared_ptr<PendingCall>& pending,
                                          const Notification& call) const = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_REACTOR_H_
