// Answers the calls of one session, one after the other.
#ifndef OAKUM_AGENT_SESSION_DESK_H_
#define OAKUM_AGENT_SESSION_DESK_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "agent/caller/task.h"
#include "agent/calls/calls.h"
#include "agent/calls/known_destinations.h"
#include "agent/calls/uring_calls.h"
#include "agent/proxy/held_spare.h"
#include "agent/session/reactor.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

// The calls of one session that are being waited for, by thread: a thread has one at a time.
class WaitingCalls {
 public:
  // The thread has made a new call, so the one before has been given up. True when a signal has
  // interrupted it and it must not be restarted: EINTR is the answer then.
  bool DropOf(Reactor& reactor, const Notification& call);
  void Add(const Reactor& reactor, pid_t tid, std::shared_ptr<PendingCall> pending);

 private:
  static constexpr size_t kSweepAbove = 64;
  std::unordered_map<pid_t, std::shared_ptr<PendingCall>> calls_;
  size_t live_ = 0;
};

// Files that deny rules name stay denied under another name: they are looked up when a policy
// begins to hold, while their names are still the ones that the rules mean. On the session's own
// thread, for a container can have its files looked up for ever (fuse(4)).
class Remembered {
 public:
  void Keep(SessionCore& core, const std::shared_ptr<const EventSource>& source);

 private:
  std::shared_ptr<const EventSource> of_;
};

// What a session has for as long as it lasts, whichever thread answers for it. One thread at a
// time.
struct LastingNotes {
  WaitingCalls waiting;
  Remembered remembered;
};

// What the thread that answers for a session works with, and what goes with it. That thread only.
class Desk {
 public:
  // All of them outlive the desk.
  Desk(const std::shared_ptr<SessionCore>& core, Reactor& reactor, const SessionOptions& options,
       LastingNotes& notes);

  // A call that has just been received. False when its slot is in use from now on.
  bool Serve(GuardedCall& call);
  // One that an agent before this one had received.
  void GoOn(JournalSlot* slot);

 private:
  // Takes what holds now, after the wait for the call, and once for all of it.
  [[nodiscard]] CallContext MakeContext(GuardedCall& call);
  // False when the call waits.
  bool Finish(const GuardedCall& call, Outcome&& outcome);

  const std::shared_ptr<SessionCore>& core_;
  Reactor& reactor_;
  LastingNotes& notes_;
  std::unique_ptr<UringCalls> uring_;
  bool want_uring_;
  DescriptorSource descriptors_;
  uint64_t source_version_ = 0;
  std::shared_ptr<const EventSource> source_;
  KnownDestinations known_;  // of the policy of source_
  HeldSpare spare_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_DESK_H_
