#include "agent/session/desk.h"

#include <linux/capability.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <utility>

#include "agent/caller/identity.h"
#include "agent/proxy/carrier.h"
#include "agent/session/recovery.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

// A caller that cannot be looked at is denied, and in audit let pass, with an event that says why.
Outcome Unseen(const CallContext& context, const GuardedCall& call, std::string why) {
  const Ruling ruling =
      context.core.JudgeUnsupported(call, policy::Operation::kSocket, std::move(why));
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(EACCES));
}

// The result of a call that is made again, with what its caller was not there to get.
Answer Completed(const CallContext& context, const GuardedCall& call, Answer answer) {
  if (answer.unwritten != nullptr) {
    const auto error = WritePeer(context.core, call, *answer.unwritten);
    if (error.value_or(0) != 0) {
      return Answer::Performed(0, *error);
    }
    if (error) {
      answer.unwritten.reset();
    }
  }
  return answer;
}

// Whether nothing was done because the agent has no descriptor left.
bool LacksRoom(const Outcome& outcome) {
  return outcome.answer && !outcome.answer->performed &&
         outcome.answer->kind == Answer::Kind::kRespond && IsShortage(outcome.answer->error);
}

// Programs that catch it are mostly Go's, whose scheduler sends it to its threads all the time.
bool CatchesUrgent(pid_t tid) {
  const auto status = ReadTaskStatus(tid);
  return status && (status->caught_signals >> (SIGURG - 1) & 1) != 0;
}

// The answer to a connect that was answered, if that may not have reached its caller. A stream
// socket that is connected, or being connected, has nothing but an error for a second connect.
// `ahead`: the call's socket, which is pinned once whatever comes of it.
std::optional<Outcome> AnsweredBefore(const CallContext& context, const GuardedCall& call,
                                      PinnedAhead& ahead) {
  const auto before = context.core.TakeDelivered(call);
  if (!before || before->socket_cookie == 0) {
    return std::nullopt;
  }
  ahead.number = static_cast<int>(call.notification.args[0]);
  PinnedSocket& socket = ahead.socket;
  if (const int error = Pin(context, call.notification.tid, ahead.number, socket); error != 0) {
    ahead = {};
    return std::nullopt;
  }
  if (!socket.is_stream() || socket.cookie != before->socket_cookie ||
      !(context.core.IsWary() || CatchesUrgent(call.notification.tid))) {
    return std::nullopt;
  }
  Answer answer = Answer::Performed(before->value, before->error);
  answer.repeats = before->repeats + 1;
  return Outcome::Of(std::move(answer), std::move(socket.fd));
}

// Once nothing is left of an earlier answer.
Outcome Handled(const CallContext& context, const GuardedCall& call) {
  (void)context.descriptors.TakeRefused();
  Outcome outcome = Handle(context, call);
  for (ShortageWait room; LacksRoom(outcome) && room.Again(outcome.answer->error);) {
    outcome = Handle(context, call);
  }
  if (LacksRoom(outcome)) {
    outcome.answer->error = ENOBUFS;  // connect(2), send(2); EMFILE would be the caller's own limit
  }
  // EPERM from pidfd_getfd(2): ptrace access, which an agent without CAP_SYS_PTRACE has not over a
  // process that is not dumpable (PR_SET_DUMPABLE); nothing has been done then.
  if (context.descriptors.TakeRefused() && outcome.answer && !outcome.answer->performed) {
    outcome = Unseen(context, call, "a process that the agent may not look into");
  }
  return outcome;
}

Outcome Answered(CallContext context, const GuardedCall& call, bool interrupted) {
  if (call.notification.tid == 0) {
    return Unseen(context, call, "a process outside the agent's pid namespace");
  }
  PinnedAhead ahead;
  if (auto outcome = AnsweredBefore(context, call, ahead); outcome) {
    return std::move(*outcome);
  }
  context.ahead = &ahead;
  if (context.core.has_replays()) {
    PinnedSocket socket;
    (void)Pin(context, call.notification.tid, static_cast<int>(call.notification.args[0]), socket);
    if (auto answer = context.core.TakeReplay(call, socket.fd.get()); answer) {
      return Outcome::Of(Completed(context, call, std::move(*answer)), std::move(socket.fd));
    }
  }
  if (interrupted) {
    return Outcome::Of(Answer::Error(EINTR));
  }
  return Handled(context, call);
}

}  // namespace

bool WaitingCalls::DropOf(Reactor& reactor, const Notification& call) {
  if (calls_.empty()) {
    return false;
  }
  const auto found = calls_.find(call.tid);
  if (found == calls_.end()) {
    return false;
  }
  const bool interrupted = reactor.WasTimedWait(found->second, call);
  reactor.Cancel(found->second);
  calls_.erase(found);
  return interrupted;
}

void WaitingCalls::Add(const Reactor& reactor, pid_t tid, std::shared_ptr<PendingCall> pending) {
  calls_[tid] = std::move(pending);
  if (calls_.size() > kSweepAbove && calls_.size() > 2 * live_) {
    std::erase_if(calls_, [&](const auto& entry) { return reactor.IsOver(entry.second); });
    live_ = calls_.size();
  }
}

void Remembered::Keep(SessionCore& core, const std::shared_ptr<const EventSource>& source) {
  if (source == of_) {
    return;
  }
  of_ = source;
  if (source->policy != nullptr) {
    const ScopedCapabilities raised(CapabilityBit(CAP_DAC_READ_SEARCH) | kPerformerCapabilities,
                                    kPerformerCapabilities);
    ShortageWait room;
    while (!core.container()->view.Remember(*source->policy) && room.Again(EMFILE)) {
    }
    core.NoteRemembered();
  }
}

Desk::Desk(const std::shared_ptr<SessionCore>& core, Reactor& reactor,
           const SessionOptions& options, LastingNotes& notes)
    : core_(core),
      reactor_(reactor),
      notes_(notes),
      want_uring_(options.use_io_uring),
      descriptors_(options.use_thread_pidfds) {
  notes_.remembered.Keep(*core_, core_->source());
}

bool Desk::Serve(GuardedCall& call) {
  core_->CountCall();
  call.kind = LookUpCall(call.notification.arch, call.notification.nr);
  const bool interrupted = notes_.waiting.DropOf(reactor_, call.notification);
  const CallContext context = MakeContext(call);
  const bool over = Finish(call, Answered(context, call, interrupted));
  if (spare_.wanted()) {
    spare_.Refill(context.carried()->carrier().own_ports());
  }
  return over;
}

void Desk::GoOn(JournalSlot* slot) {
  GuardedCall call;
  call.notification = ReadNotification(slot->notification);
  call.slot = slot;
  call.kind = LookUpCall(call.notification.arch, call.notification.nr);
  const CallContext context = MakeContext(call);
  auto outcome = Recover(context, call);
  if (!outcome) {
    core_->CountCall();
    slot->Restart();
    outcome = Answered(context, call, false);
  }
  if (Finish(call, std::move(*outcome))) {
    core_->Forget(call);
  }
}

CallContext Desk::MakeContext(GuardedCall& call) {
  // Asked for after the wait: what holds when the call comes.
  if (const uint64_t version = core_->source_version(); version != source_version_) {
    source_version_ = version;
    source_ = core_->source();
    known_.Begin(source_->policy.get());
    notes_.remembered.Keep(*core_, source_);
  }
  if (call.source != source_) {
    call.source = source_;
  }
  if (want_uring_ && uring_ == nullptr) {
    // Made when first needed: a container that never calls costs no ring.
    auto created = UringCalls::Create(true);
    // Without room for it now there may be some for the next call.
    want_uring_ = !created && IsShortage(created.error().code);
    if (created) {
      uring_ = std::move(*created);
    }
  }
  return {*core_, descriptors_, *call.source, uring_.get(), &spare_, &known_};
}

bool Desk::Finish(const GuardedCall& call, Outcome&& outcome) {
  if (outcome.answer) {
    const uint64_t cookie = !outcome.answer->performed ? 0
                            : outcome.cookie != 0      ? outcome.cookie
                            : call.cookie() != 0       ? call.cookie()
                                                       : SocketCookie(outcome.socket.get());
    outcome.socket.Reset();
    core_->Deliver(call, std::move(*outcome.answer), cookie);
    return true;
  }
  if (!reactor_.HasRoomFor(*core_)) {
    auto done_so_far = outcome.operation->Abandon();
    core_->Deliver(call, done_so_far ? std::move(*done_so_far) : Answer::Error(ENOBUFS), 0);
    return true;
  }
  notes_.waiting.Add(reactor_, call.notification.tid,
                     reactor_.Add(core_, call, std::move(outcome.operation)));
  return false;
}

}  // namespace oakum::agent
