#include "agent/session/session_core.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <thread>

#include "agent/caller/identity.h"
#include "agent/calls/calls.h"

namespace oakum::agent {

namespace {

int64_t RealtimeNanoseconds() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// After a caller has left its call. Signals seldom come alone, and each look costs as much as half
// an answer.
constexpr std::chrono::seconds kWaryFor{30};
// Some 50 ms in all: what is woken by then and does not run waits for a processor.
constexpr int kQuickLooks = 20;
constexpr int kMostLooks = kQuickLooks + 500;

int64_t CoarseNanoseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

long SendSignal(int pidfd, int signal) {
  return syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0);
}

policy::Endpoint Canonical(const policy::InetRequest& request) {
  switch (request.operation) {
    case policy::Operation::kConnect:
    case policy::Operation::kSend:
      return request.remote;
    case policy::Operation::kBind:
    case policy::Operation::kListen:
    case policy::Operation::kAccept:
    case policy::Operation::kSocket:
    case policy::Operation::kIoUring:
      return request.local;
  }
  return {};
}

EventVerdict VerdictOf(policy::Mode mode, bool denied, bool redirected) {
  if (redirected) {
    return EventVerdict::kRedirect;
  }
  switch (mode) {
    case policy::Mode::kAudit:
      return denied ? EventVerdict::kAudit : EventVerdict::kAllow;
    case policy::Mode::kEnforce:
      return denied ? EventVerdict::kDeny : EventVerdict::kAllow;
    case policy::Mode::kKill:
      return denied ? EventVerdict::kKill : EventVerdict::kAllow;
  }
  return EventVerdict::kDeny;
}

// Whether a process under that policy, and the filter that it has, may bind a socket to a network
// interface. Without a policy everything is refused; of a filter that somebody wrote by hand nobody
// knows what it lets pass.
bool LetsBind(const EventSource& source) {
  return source.filter == nullptr || !source.gaps.empty() ||
         (source.policy != nullptr &&
          (!source.policy->denies_by_default() || source.policy->mode() == policy::Mode::kAudit));
}

}  // namespace

SessionCore::SessionCore(uint64_t number, NotifyFd notify,
                         std::shared_ptr<const EventSource> source, pid_t init_pid,
                         UniqueFd init_pidfd, std::shared_ptr<ContainerParts> container,
                         EventSink& events, std::optional<KeptSession> kept,
                         std::shared_ptr<BindingSessions> binding)
    : number_(number),
      notify_(std::move(notify)),
      kept_(std::move(kept)),
      init_pid_(init_pid),
      attached_ns_(kept_ ? kept_->attached_ns : RealtimeNanoseconds()),
      init_pidfd_(std::move(init_pidfd)),
      container_(std::move(container)),
      events_(events),
      source_(std::move(source)),
      binding_(std::move(binding)) {
  if (LetsBind(*source_)) {
    NoteBinding();
  }
}

void SessionCore::NoteRemembered() {
  const auto files = container_->view.Remembered();
  if (kept_ && !files.empty()) {
    // Beyond its bounds they are remembered by this agent alone.
    (void)kept_->journal.Note(EncodeRemembered(files));
  }
}

void SessionCore::LetGo() {
  {
    const std::lock_guard lock(process_mutex_);
    process_reader_.reset();
  }
  delivered_.Forget();
  if (kept_) {
    kept_->journal.LetGo();
  }
}

std::shared_ptr<const EventSource> SessionCore::source() const {
  const std::lock_guard lock(source_mutex_);
  return source_;
}

void SessionCore::SetSource(std::shared_ptr<const EventSource> source) {
  const std::lock_guard lock(source_mutex_);
  source_ = std::move(source);
  if (LetsBind(*source_) && !binds_) {
    binds_.emplace(binding_);
  }
  ++source_version_;
}

void SessionCore::NoteBinding() {
  const std::lock_guard lock(source_mutex_);
  if (!binds_) {
    binds_.emplace(binding_);
  }
}

std::shared_ptr<const ProcessInfo> SessionCore::ProcessOf(const GuardedCall& call) {
  const pid_t tid = call.notification.tid;
  if (call.over) {
    return ReadProcessInfo(tid, false);
  }
  // Another thread of this container's may have to wait for memory of its.
  const std::unique_lock lock(process_mutex_, std::try_to_lock);
  if (!lock) {
    return ReadProcessInfo(tid, true);
  }
  if (process_reader_ == nullptr) {
    process_reader_ = std::make_unique<ProcessReader>();
  }
  return process_reader_->Read(tid, call.notification.id, call.mark);
}

void SessionCore::LookForMark(const GuardedCall& call) {
  if (call.source == nullptr || call.source->policy == nullptr ||
      call.source->policy->log() != policy::LogLevel::kAll) {
    return;
  }
  const std::unique_lock lock(process_mutex_, std::try_to_lock);
  if (lock && process_reader_ != nullptr) {
    call.mark.address = process_reader_->MarkOf(call.notification.tid);
  }
}

template <typename Describe>
Ruling SessionCore::Apply(const GuardedCall& call, const std::shared_ptr<const EventSource>& source,
                          const policy::Decision& decision, bool leaky, const Describe& describe) {
  const policy::Policy* const policy = source->policy.get();
  // A session whose policy is gone denies everything.
  const policy::Mode mode = policy != nullptr ? policy->mode() : policy::Mode::kEnforce;
  const bool audits = mode == policy::Mode::kAudit;
  const bool carried = decision.carry != policy::Carry::kDirect && !audits;
  const bool redirected = carried && decision.verdict == policy::Verdict::kRedirect;
  const bool denied = decision.verdict != policy::Verdict::kAllow && !redirected;
  (redirected ? redirected_ : denied ? denied_ : allowed_).fetch_add(1, std::memory_order_relaxed);
  const bool leak = denied && leaky;
  if (leak) {
    leaks_.fetch_add(1, std::memory_order_relaxed);
  }
  if (denied || (policy != nullptr && policy->log() == policy::LogLevel::kAll)) {
    Event event;
    event.source_of = source;
    describe(event);
    event.process = ProcessOf(call);
    event.time_ns = RealtimeNanoseconds();
    event.verdict = VerdictOf(mode, denied, redirected);
    event.would = decision.verdict;
    event.leak = leak;
    event.syscall = call.kind.name;
    event.rule = decision.rule;
    event.errno_value = denied && !audits ? EACCES : 0;
    event.thread_id = call.notification.tid;
    events_.Push(std::move(event));
  }
  if (audits) {
    // What is said to a proxy can only be seen on the way.
    const bool watched = !denied && decision.carry == policy::Carry::kChecked;
    return watched ? Ruling::kCarry : Ruling::kPass;
  }
  if (!denied) {
    return carried ? Ruling::kCarry : Ruling::kPerform;
  }
  if (mode == policy::Mode::kKill) {
    KillContainer(call);
  }
  return Ruling::kRefuse;
}

Judged SessionCore::Decide(const GuardedCall& call, const policy::InetRequest& request) const {
  Judged judged;
  if (call.source == nullptr) {
    judged.source = source();
  }
  const policy::Policy* const policy =
      (judged.source != nullptr ? judged.source : call.source)->policy.get();
  judged.decision = policy != nullptr ? policy->Decide(request)
                                      : policy::Decision{policy::Verdict::kDeny,
                                                         "the session's policy does not exist"};
  return judged;
}

Ruling SessionCore::Judge(const GuardedCall& call, const policy::InetRequest& request,
                          const Judged& judged, std::string_view detail) {
  const auto asked = judged.source != nullptr || call.source != nullptr ? nullptr : source();
  const auto& of = asked != nullptr           ? asked
                   : judged.source != nullptr ? judged.source
                                              : call.source;
  return Apply(call, of, judged.decision, true, [&](Event& event) {
    event.detail = detail;
    if (!request.names.empty()) {
      event.domain = request.names.front();
    }
    event.operation = request.operation;
    event.transport = request.transport;
    event.destination = Canonical(request);
    event.family = event.destination.ip.IsV4() ? Event::Family::kIpv4 : Event::Family::kIpv6;
    if (request.operation == policy::Operation::kAccept) {
      event.source = request.remote;
    }
  });
}

Ruling SessionCore::Judge(const GuardedCall& call, policy::Operation operation,
                          const SocketNames& names) {
  const auto of = SourceOf(call);
  const policy::Decision decision =
      of->policy != nullptr
          ? of->policy->Decide(policy::UnixRequest{.operation = operation,
                                                   .name = names.name,
                                                   .aliases = names.aliases,
                                                   .more_names = names.more_names})
          : policy::Decision{policy::Verdict::kDeny, "the session's policy does not exist"};
  return Apply(call, of, decision, false, [&](Event& event) {
    event.operation = operation;
    event.transport = policy::Transport::kOther;
    event.family = Event::Family::kUnix;
    event.unix_name = names.shown;
  });
}

Ruling SessionCore::JudgeUnsupported(const GuardedCall& call, policy::Operation operation,
                                     std::string detail) {
  const policy::Decision denied{policy::Verdict::kDeny, "not supported"};
  return Apply(call, SourceOf(call), denied, true, [&](Event& event) {
    event.operation = operation;
    event.transport = policy::Transport::kOther;
    event.family = Event::Family::kOther;
    event.detail = std::move(detail);
  });
}

void SessionCore::ReportInherited(pid_t pid, const InheritedSocket& socket) {
  Event event;
  event.inherited = true;
  event.source_of = source();
  event.operation = policy::Operation::kSocket;
  event.transport = socket.is_inet() ? socket.transport() : policy::Transport::kOther;
  event.detail =
      fmt::format("descriptor {}{}", socket.number,
                  socket.connected ? ", connected" : (socket.listening ? ", listening" : ""));
  const auto& policy = event.source_of->policy;
  policy::Decision decision{policy::Verdict::kAllow, {}};
  bool leaky = true;
  if (socket.is_inet()) {
    event.family = socket.domain == AF_INET ? Event::Family::kIpv4 : Event::Family::kIpv6;
    event.destination = socket.peer;
    event.source = socket.local;
    if (policy != nullptr && (socket.connected || socket.listening)) {
      decision = policy->Decide(policy::InetRequest{
          .operation = socket.connected ? policy::Operation::kConnect : policy::Operation::kListen,
          .transport = event.transport,
          .remote = socket.peer,
          .local = socket.local});
    }
  } else if (socket.domain == AF_UNIX) {
    leaky = false;
    event.family = Event::Family::kUnix;
    event.unix_name = socket.unix_peer.empty() ? socket.unix_local : socket.unix_peer;
    if (policy != nullptr && socket.connected && !socket.unix_peer.empty()) {
      decision = policy->Decide(
          policy::UnixRequest{.operation = policy::Operation::kConnect, .name = socket.unix_peer});
    }
  } else {
    event.family = Event::Family::kOther;
    event.detail += fmt::format(", socket family {}, type {}", socket.domain, socket.type);
    if (!IsPlainSocket(socket.domain, socket.type, socket.protocol)) {
      decision = {policy::Verdict::kDeny, "not supported"};
    }
  }
  const bool denied = decision.verdict != policy::Verdict::kAllow;
  event.leak = denied && leaky;
  if (event.leak) {
    leaks_.fetch_add(1, std::memory_order_relaxed);
  }
  event.process = ReadProcessInfo(pid, true);
  event.time_ns = RealtimeNanoseconds();
  event.verdict = denied ? EventVerdict::kAudit : EventVerdict::kAllow;
  event.would = decision.verdict;
  event.rule = decision.rule;
  events_.Push(std::move(event));
}

void SessionCore::NoteInterrupted() {
  wary_until_ns_.store(CoarseNanoseconds() + std::chrono::nanoseconds(kWaryFor).count(),
                       std::memory_order_relaxed);
}

bool SessionCore::IsWary() const {
  const int64_t until = wary_until_ns_.load(std::memory_order_relaxed);
  return until != 0 && CoarseNanoseconds() < until;
}

// A caller that a signal has woken takes the filter's lock to say that it leaves, and what is sent
// in the instant before is thrown away though SECCOMP_IOCTL_NOTIF_SEND says that it was delivered
// (seccomp_do_user_notification()). One that is up is therefore let go on: either it leaves, and
// what was done for it is kept for when it calls again, or it sleeps. One that sleeps takes longer
// to get up than it takes to answer it.
CallerWatch SessionCore::LetSettle(const GuardedCall& call) const {
  CallerWatch watch(call.notification.tid);
  for (int looks = 0; looks < kMostLooks && watch.IsUp() && notify_.IdValid(call.notification.id);
       ++looks) {
    if (looks < kQuickLooks) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  return watch;
}

void SessionCore::Deliver(const GuardedCall& call, Answer&& answer, uint64_t socket_cookie) {
  const uint64_t id = call.notification.id;
  int error = 0;
  std::optional<CallerWatch> watch;
  const bool matters = answer.performed || answer.take_back != nullptr;
  switch (answer.kind) {
    case Answer::Kind::kRespond:
      if (call.slot != nullptr) {
        call.slot->Finish(answer.value, answer.error, answer.performed ? socket_cookie : 0,
                          answer.sigpipe);
      }
      if (matters && IsWary()) {
        watch.emplace(LetSettle(call));
      }
      error = notify_.Respond(id, answer.value, answer.error);
      break;
    case Answer::Kind::kContinue:
      error = notify_.Continue(id);
      break;
    case Answer::Kind::kFd:
      error = notify_.RespondWithFd(id, answer.fd.get(), answer.fd_flags);
      if (error != 0 && error != ENOENT) {
        // The caller's own descriptor limit: natively EMFILE before anything was accepted. What was
        // accepted is there when it calls again.
        (void)notify_.Respond(id, 0, error);
        error = ENOENT;
      }
      break;
    case Answer::Kind::kNone:
      return;
  }
  if (error == ENOENT) {
    NoteInterrupted();
  } else if (error == 0 && answer.performed && !answer.harmless &&
             call.kind.call == Call::kConnect &&
             (answer.error == 0 || answer.error == EINPROGRESS) &&
             answer.repeats < Delivered::kMostRepeats) {
    delivered_.Remember(call.notification,
                        {socket_cookie, answer.value, answer.error, answer.repeats});
  }
  if (error == ENOENT && answer.take_back != nullptr) {
    (*answer.take_back)();
    return;
  }
  if (error == ENOENT && answer.performed) {
    replays_.Keep(call, socket_cookie, std::move(answer));
    return;
  }
  if (error == 0 && answer.sigpipe) {
    // tcp_sendmsg() raises it in the caller; the call has to be over first, or the signal would
    // interrupt the wait for this very answer.
    const ScopedCapabilities raised(CapabilityBit(CAP_KILL) | kPerformerCapabilities,
                                    kPerformerCapabilities);
    const auto status = ReadTaskStatus(call.notification.tid);
    if (status) {
      (void)syscall(SYS_tgkill, status->tgid, call.notification.tid, SIGPIPE);
    }
  }
}

void SessionCore::KeepForReplay(const GuardedCall& call, Answer answer, int socket_fd) {
  replays_.Keep(call, SocketCookie(socket_fd), std::move(answer));
}

std::optional<Answer> SessionCore::TakeReplay(const GuardedCall& call, int socket_fd) {
  return replays_.Take(call, SocketCookie(socket_fd));
}

SessionInfo SessionCore::Info() const {
  const auto now = source();
  SessionInfo info;
  info.session = number_;
  info.container_id = now->container_id;
  info.name = now->facts.name;
  info.image = now->facts.image;
  if (now->policy != nullptr) {
    info.policy = now->policy->name();
    info.mode = now->policy->mode();
  }
  info.init_pid = init_pid_;
  info.attached_ns = attached_ns_;
  info.calls = calls_.load(std::memory_order_relaxed);
  info.allowed = allowed_.load(std::memory_order_relaxed);
  info.denied = denied_.load(std::memory_order_relaxed);
  info.leaks = leaks_.load(std::memory_order_relaxed);
  info.redirected = redirected_.load(std::memory_order_relaxed);
  info.proxy_failures = proxy_failures_.load(std::memory_order_relaxed);
  info.waiting = waiting();
  info.filter_known = now->filter != nullptr;
  info.filter_gaps = now->gaps;
  return info;
}

void SessionCore::KillContainer(const GuardedCall& call) {
  const ScopedCapabilities raised(CapabilityBit(CAP_KILL) | kPerformerCapabilities,
                                  kPerformerCapabilities);
  // The caller is held by its own call: if that is still waiting after the pidfd was opened, the
  // number meant this process.
  UniqueFd caller;
  if (const auto status = ReadTaskStatus(call.notification.tid); status) {
    caller.Reset(static_cast<int>(syscall(SYS_pidfd_open, status->tgid, 0)));
    if (caller && !notify_.IdValid(call.notification.id)) {
      caller.Reset();
    }
  }
  // First who may wait for the caller, and would go on with what comes after it.
  if (init_pidfd_) {
    (void)SendSignal(init_pidfd_.get(), SIGKILL);
  }
  if (caller) {
    (void)SendSignal(caller.get(), SIGKILL);
  }
}

}  // namespace oakum::agent
