// What one session's thread and the reactor share: the listener, the policy, counters, answers.
#ifndef OAKUM_AGENT_SESSION_SESSION_CORE_H_
#define OAKUM_AGENT_SESSION_SESSION_CORE_H_

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/caller/caller_state.h"
#include "agent/caller/process_info.h"
#include "agent/caller/socket_kinds.h"
#include "agent/calls/inherited_sockets.h"
#include "agent/calls/operation.h"
#include "agent/events/event.h"
#include "agent/session/binding_sessions.h"
#include "agent/session/container_parts.h"
#include "agent/session/delivered.h"
#include "agent/session/notify_fd.h"
#include "agent/session/session_keeping.h"
#include "agent/session/session_manager.h"
#include "agent/session/undelivered.h"
#include "base/unique_fd.h"
#include "policy/policy.h"

namespace oakum::agent {

// What a decision means for the call.
enum class Ruling : uint8_t {
  kPerform,  // allowed: the agent carries it out
  kPass,     // audit: the kernel carries it out
  kRefuse,   // denied, or the container is being killed
  kCarry,    // by Decision::carry: through a proxy, to the agent's own resolver, past a check
};

// A decision, and the policy that it belongs to: null where there is none any more, which denies.
// Both stay together: the mode of one policy never answers for the rules of another.
struct Judged {
  policy::Decision decision;
  std::shared_ptr<const EventSource> source;  // null: the call's own
  // For what outlives its call: set once the ruling is Ruling::kCarry.
  std::shared_ptr<const policy::Policy> policy;
  // The names that the container was told the destination for, the last one first.
  std::vector<std::string> names;
};

class SessionCore : public std::enable_shared_from_this<SessionCore> {
 public:
  // `init_pidfd` may be invalid: then `kill` ends only the process that called.
  SessionCore(uint64_t number, NotifyFd notify, std::shared_ptr<const EventSource> source,
              pid_t init_pid, UniqueFd init_pidfd, std::shared_ptr<ContainerParts> container,
              EventSink& events, std::optional<KeptSession> kept = std::nullopt,
              std::shared_ptr<BindingSessions> binding = std::make_shared<BindingSessions>());

  [[nodiscard]] const NotifyFd& notify() const { return notify_; }
  // Null: nobody would go on with this session after this agent.
  [[nodiscard]] Journal* journal() { return kept_ ? &kept_->journal : nullptr; }
  [[nodiscard]] const KeptSession* kept() const { return kept_ ? &*kept_ : nullptr; }
  // The name by which it is kept; empty if it is not.
  [[nodiscard]] std::string kept_name() const { return kept_ ? kept_->name : std::string(); }
  // Has the next agent know which files the view remembers.
  void NoteRemembered();
  // Gives up what makes calls faster and may be had again, and what is remembered of answers that
  // have been delivered. Nobody answers for the session then, nor has for a while.
  void LetGo();
  // The call is over: its slot is free.
  void Forget(const GuardedCall& call) {
    if (kept_) {
      kept_->journal.Release(call.slot);
    }
  }
  // What holds now; a call has its own (GuardedCall::source).
  [[nodiscard]] std::shared_ptr<const EventSource> source() const;
  [[nodiscard]] std::shared_ptr<const EventSource> SourceOf(const GuardedCall& call) const {
    return call.source != nullptr ? call.source : source();
  }
  void SetSource(std::shared_ptr<const EventSource> source);
  // Changes with what source() returns, and not before.
  [[nodiscard]] uint64_t source_version() const { return source_version_.load(); }
  [[nodiscard]] const std::shared_ptr<ContainerParts>& container() const { return container_; }

  // Of this agent's sessions: those that may let a process bind a socket to a network interface.
  [[nodiscard]] const BindingSessions& binding() const { return *binding_; }
  // It is one of them, from now on until it ends: its filter stays what it is, and may let options
  // pass that a later policy refuses. So is one that an earlier agent has answered for, since
  // nobody knows what filter it has.
  void NoteBinding();

  // Decides, counts, writes the event where one is due, and in `kill` ends the container.
  [[nodiscard]] Ruling Judge(const GuardedCall& call, const policy::InetRequest& request) {
    return Judge(call, request, Decide(call, request));
  }
  // The two halves of it: what the policy says; and the rest, also for a decision that the caller
  // has changed because it cannot be carried out (`detail` says why).
  [[nodiscard]] Judged Decide(const GuardedCall& call, const policy::InetRequest& request) const;
  [[nodiscard]] Ruling Judge(const GuardedCall& call, const policy::InetRequest& request,
                             const Judged& judged, std::string_view detail = {});
  [[nodiscard]] Ruling Judge(const GuardedCall& call, policy::Operation operation,
                             const SocketNames& names);
  // Something that no rule can allow: `detail` says what it was.
  [[nodiscard]] Ruling JudgeUnsupported(const GuardedCall& call, policy::Operation operation,
                                        std::string detail);
  // Reports a socket that process `pid` was started with. It is let be, whatever the policy says:
  // the event tells what connecting or listening would have met.
  void ReportInherited(pid_t pid, const InheritedSocket& socket);
  // Sends the answer. What was performed and could not be delivered because the caller is gone for
  // a moment (a signal) is kept and given to the caller when it makes the same call again.
  // `socket_cookie` names the socket it was performed on. The agent's own duplicate of that is
  // better closed before: a caller that closes its socket at once must find its address or name
  // free again.
  void Deliver(const GuardedCall& call, Answer&& answer, uint64_t socket_cookie);
  // Keeps `answer` for a caller that has left before the operation ended.
  void KeepForReplay(const GuardedCall& call, Answer answer, int socket_fd);
  void KeepForReplay(const GuardedCall& call, Answer answer, uint64_t socket_cookie) {
    replays_.Keep(call, socket_cookie, std::move(answer));
  }
  // The kept answer to exactly this call on this socket, if there is one.
  [[nodiscard]] std::optional<Answer> TakeReplay(const GuardedCall& call, int socket_fd);
  // Fills in where the mark of the call's program is, if each call becomes an event: then it is to
  // be read along with the call's arguments, which costs less than by itself.
  void LookForMark(const GuardedCall& call);
  [[nodiscard]] bool has_replays() const { return replays_.size_hint() > 0; }
  // The answer to a connect of the same thread, the last guarded call that it made, if `call` is
  // that call again and the kernel may have thrown that answer away.
  [[nodiscard]] std::optional<Delivered::Result> TakeDelivered(const GuardedCall& call) {
    return delivered_.TakeSame(call.notification);
  }
  // Whether callers have left their calls lately.
  [[nodiscard]] bool IsWary() const;
  // A caller has left its call, as one does for a signal: there may be more of them.
  void NoteInterrupted();

  [[nodiscard]] SessionInfo Info() const;
  [[nodiscard]] const UniqueFd& init_pidfd() const { return init_pidfd_; }
  [[nodiscard]] pid_t init_pid() const { return init_pid_; }
  void CountCall() { calls_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
  // Calls that wait now.
  [[nodiscard]] size_t waiting() const {
    return static_cast<size_t>(std::max<int64_t>(0, waiting_.load(std::memory_order_relaxed)));
  }
  void CountProxyFailure() { proxy_failures_.fetch_add(1, std::memory_order_relaxed); }
  // Something that was let through as far as a check, and did not pass it.
  void CountRefused() {
    denied_.fetch_add(1, std::memory_order_relaxed);
    leaks_.fetch_add(1, std::memory_order_relaxed);
  }
  void CountWaiting(int change) { waiting_.fetch_add(change, std::memory_order_relaxed); }
  // Ends the container: its init, and the group of the thread that called.
  void KillContainer(const GuardedCall& call);

 private:
  // Returns when nothing speaks against answering: the caller sleeps, or has left. The watch is to
  // be kept until the answer has been sent, for closing it takes time.
  [[nodiscard]] CallerWatch LetSettle(const GuardedCall& call) const;
  [[nodiscard]] std::shared_ptr<const ProcessInfo> ProcessOf(const GuardedCall& call);
  // `describe` says in an Event what was asked, and is only called where one is due; `leaky`: that,
  // denied, it would have gone around the proxy.
  template <typename Describe>
  [[nodiscard]] Ruling Apply(const GuardedCall& call,
                             const std::shared_ptr<const EventSource>& source,
                             const policy::Decision& decision, bool leaky,
                             const Describe& describe);

  const uint64_t number_;
  const NotifyFd notify_;
  std::optional<KeptSession> kept_;
  const pid_t init_pid_;
  const int64_t attached_ns_;
  const UniqueFd init_pidfd_;
  const std::shared_ptr<ContainerParts> container_;
  EventSink& events_;
  mutable std::mutex source_mutex_;
  std::shared_ptr<const EventSource> source_;
  std::atomic<uint64_t> source_version_{1};
  const std::shared_ptr<BindingSessions> binding_;
  std::optional<BindingSessions::Place> binds_;  // under source_mutex_
  std::mutex process_mutex_;
  std::unique_ptr<ProcessReader> process_reader_;  // made for the first event
  Undelivered replays_;
  Delivered delivered_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> allowed_{0};
  std::atomic<uint64_t> denied_{0};
  std::atomic<uint64_t> leaks_{0};
  std::atomic<uint64_t> redirected_{0};
  std::atomic<uint64_t> proxy_failures_{0};
  std::atomic<int64_t> waiting_{0};
  std::atomic<int64_t> wary_until_ns_{0};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_SESSION_CORE_H_
