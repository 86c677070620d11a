#include "agent/session/session_manager.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "agent/dns/names_file.h"
#include "agent/proxy/kept_names.h"
#include "agent/server/wakeable_epoll.h"
#include "agent/session/adoption.h"
#include "agent/session/container_policies.h"
#include "agent/session/gate_recovery.h"
#include "agent/session/kept_sessions.h"
#include "agent/session/pidfd.h"
#include "agent/session/quiet_sessions.h"
#include "agent/session/reactor.h"
#include "agent/session/relay_recovery.h"
#include "agent/session/session.h"
#include "agent/session/session_bounds.h"
#include "agent/session/session_keeping.h"
#include "agent/session/undertaker.h"

namespace oakum::agent {

namespace {

// 0 is taken by what wakes whoever waits for them.
constexpr uint64_t kFirstNumber = 1;

class Sessions final : public SessionManager {
 public:
  Sessions(SessionOptions options, std::shared_ptr<const policy::PolicySet> policies,
           EventSink& events, const Log& log, std::unique_ptr<Reactor> reactor,
           std::unique_ptr<QuietSessions> quiet, WakeableEpoll hang_ups)
      : options_(options),
        events_(events),
        log_(log),
        reactor_(std::move(reactor)),
        quiet_(std::move(quiet)),
        carrier_(std::make_unique<Carrier>(events, log, options.store, options.tls_process)),
        policies_(std::move(policies)),
        kept_(options.store, log),
        undertaker_(std::move(hang_ups), {.hung_up = [this](uint64_t number) { HungUp(number); },
                                          .bury = [this](uint64_t number) { Bury(number); }}) {}

  ~Sessions() override {
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [number, session] : sessions_) {
        if (Journal* journal = session->core()->journal(); journal != nullptr) {
          journal->Freeze();
        }
      }
    }
    carrier_->KeepAll();
    undertaker_.Stop();
    quiet_->Stop();
    sessions_.clear();  // stops the threads
    reactor_.reset();   // gives up what still waits
    resuming_.reset();  // waits for what is just being gone on with
    carrier_.reset();   // ends the workers, and what they carry
  }

  Expected<void> Attach(const oci::ContainerProcessState& state, UniqueFd notify_fd) override {
    auto notify = NotifyFd::Create(std::move(notify_fd));
    if (!notify) {
      return std::unexpected(std::move(notify.error()));
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [number, session] : sessions_) {
      if (notify->IsSameAs(session->core()->notify().fd())) {
        return MakeError(EEXIST, fmt::format("its listener is that of session {} already, which "
                                             "goes on as it was",
                                             number));
      }
    }
    const size_t state_bytes = StateBytes(state);
    if (auto room = bounds_.Admit(state.id, state_bytes); !room) {
      return room;
    }
    auto source = policies_.SourceOf(state);
    UniqueFd init_pidfd = InitPidfd(state);
    auto parts = PartsOf(state.id, state.init_pid);
    if (parts == nullptr) {
      parts = std::make_shared<ContainerParts>(state.init_pid, cgroups_, BorrowedCarrier());
      if (options_.store != nullptr) {
        parts->KeepNames(NamesFile::Make());
      }
    }
    // Reads what the container has not yet had a hand in: also for a policy that comes later.
    (void)parts->carried();
    auto kept = kept_.Keep(next_number_, state, *source, notify->fd(), init_pidfd.get(), *parts);
    auto core = std::make_shared<SessionCore>(next_number_, std::move(*notify), std::move(source),
                                              state.init_pid, std::move(init_pidfd),
                                              std::move(parts), events_, std::move(kept), binding_);
    ReportInherited(state, *core);
    auto begun = Begin(core, state_bytes);
    if (!begun) {
      kept_.Forget(*core);
    }
    return begun;
  }

  Expected<size_t> Adopt(std::vector<KeptItem> items) override {
    if (auto known = CheckVersions(items); !known) {
      return std::unexpected(std::move(known.error()));
    }
    const AdoptionPatience patience;
    std::list<AdoptedSession> kept = OpenSessions(
        items, patience,
        [this](const auto& name, const auto& error) { kept_.NotAdopted(name, error); });
    const std::lock_guard lock(mutex_);
    const KeptPeers peers(items);
    KeptGates gates(items);
    size_t adopted = 0;
    for (AdoptedSession& one : kept) {
      const std::string name = one.kept.name;
      if (auto begun = AdoptOne(std::move(one), peers, gates, patience); begun) {
        ++adopted;
      } else {
        kept_.NotAdopted(name, begun.error());
      }
    }
    std::map<uint64_t, std::shared_ptr<SessionCore>> by_name;
    for (const auto& [number, session] : sessions_) {
      by_name.emplace(SessionOfName(session->core()->kept_name()), session->core());
    }
    GoOnWithRelays(
        items,
        [&by_name](uint64_t session) {
          const auto found = by_name.find(session);
          return found != by_name.end() ? found->second : nullptr;
        },
        *carrier_, *resuming_, log_);
    gates.ForgetRest(carrier_->kept_relays());
    return adopted;
  }

  void SetPolicies(std::shared_ptr<const policy::PolicySet> policies) override {
    const std::lock_guard lock(mutex_);
    policies_.Set(std::move(policies));
    std::set<std::string> reported;  // an exec has a session of its own, and the same filter
    for (auto& [number, session] : sessions_) {
      const auto before = session->core()->source();
      auto source = policies_.Renew(*before, before->policy_name);
      if (source->policy == nullptr) {
        log_.Warning(
            "session {}: policy \"{}\" is gone: all guarded calls of container {} are "
            "denied",
            number, Escape(source->policy_name), Escape(source->container_id));
      }
      if (reported.insert(source->container_id).second) {
        ReportGaps(*source);
      }
      Use(*session, std::move(source));
    }
  }

  void KeepAgain() override {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, session] : sessions_) {
      kept_.KeepAgain(number);
    }
    carrier_->kept_relays().KeepAgain();
  }

  size_t KeepRest() override {
    const std::lock_guard lock(mutex_);
    const size_t left = kept_.KeepRest([this](uint64_t number) -> const SessionCore* {
      const auto found = sessions_.find(number);
      return found != sessions_.end() ? found->second->core().get() : nullptr;
    });
    return left == 0 ? carrier_->kept_relays().KeepRest() : left;
  }

  bool left_to_keep() const override {
    const std::lock_guard lock(mutex_);
    return kept_.left();
  }

  std::vector<SessionInfo> List() const override {
    const std::lock_guard lock(mutex_);
    std::vector<SessionInfo> list;
    list.reserve(sessions_.size());
    for (const auto& [number, session] : sessions_) {
      list.push_back(session->core()->Info());
    }
    return list;
  }

  SessionTotals Totals() const override {
    const std::lock_guard lock(mutex_);
    SessionTotals totals = ended_;
    totals.sessions = next_number_ - kFirstNumber;
    for (const auto& [number, session] : sessions_) {
      Add(session->core()->Info(), totals);
    }
    return totals;
  }

 private:
  // Calls that are being decided keep the policy that they began with. The guard goes before the
  // first call that audit lets the kernel carry out, and may come back before the first that is
  // not.
  static void Use(Session& session, std::shared_ptr<const EventSource> source) {
    NativeUnix& native = session.core()->container()->native_unix;
    if (source->policy != nullptr && source->policy->mode() == policy::Mode::kAudit) {
      native.Suspend();
    } else {
      native.Resume();
    }
    session.core()->SetSource(std::move(source));
  }

  void ReportGaps(const EventSource& source) const {
    if (!source.gaps.empty()) {
      log_.Warning(
          "container {}: its filter is not the one that policy \"{}\" needs now: it {}; "
          "start the container again to give it that filter",
          Escape(source.container_id), Escape(source.policy_name), DescribeGaps(source.gaps));
    }
  }

  // Under mutex_, as all that follow.
  Expected<void> Begin(
      std::shared_ptr<SessionCore> core, size_t state_bytes,
      const AdoptionPatience& patience = AdoptionPatience(std::chrono::milliseconds(0))) {
    const uint64_t number = next_number_++;
    const auto source = core->source();
    const auto start = [&] {
      return Session::Start(core, *reactor_, options_,
                            {.for_good = [this, number] { undertaker_.Ended(number); },
                             .to_rest = [this, number] { quiet_->Rests(number); }});
    };
    auto session = start();
    while (!session && patience.Again(session.error())) {
      session = start();
    }
    if (!session) {
      bounds_.Release(source->container_id, state_bytes);
      return std::unexpected(std::move(session.error()));
    }
    quiet_->Add(number, **session);
    sessions_.emplace(number, std::move(*session));
    state_bytes_.emplace(number, state_bytes);
    if (const int error = undertaker_.Watch(number, core->notify().fd()); error != 0) {
      log_.Warning("session {}: cannot watch its listener: errno {}", number, error);
    }
    if (source->policy == nullptr) {
      log_.Warning("session {}: container {} has no policy here: all its guarded calls are denied",
                   number, Escape(source->container_id));
    }
    ReportGaps(*source);
    return {};
  }

  Expected<void> AdoptOne(AdoptedSession one, const KeptPeers& peers, KeptGates& gates,
                          const AdoptionPatience& patience) {
    const size_t state_bytes = StateBytes(one.state.container);
    if (auto room = bounds_.Admit(one.state.container.id, state_bytes); !room) {
      return room;
    }
    auto source = policies_.Renew(*policies_.SourceOf(one.state.container), one.state.policy);
    const pid_t init_pid = one.state.container.init_pid;
    auto parts = PartsOf(one.state.container.id, init_pid);
    if (parts == nullptr) {
      parts = std::make_shared<ContainerParts>(init_pid, std::move(one.origin),
                                               std::move(one.state.resolv_conf), cgroups_,
                                               BorrowedCarrier());
      parts->KeepNames(std::move(one.names));
    }
    auto core = std::make_shared<SessionCore>(
        next_number_, std::move(one.notify), std::move(source), init_pid, std::move(one.init_pidfd),
        std::move(parts), events_, std::move(one.kept), binding_);
    core->NoteBinding();
    peers.Remember(*core);
    gates.TakeUp(*core, *carrier_);
    return Begin(std::move(core), state_bytes, patience);
  }

  static void Add(const SessionInfo& info, SessionTotals& totals) {
    totals.calls += info.calls;
    totals.allowed += info.allowed;
    totals.denied += info.denied;
    totals.leaks += info.leaks;
    totals.redirected += info.redirected;
    totals.proxy_failures += info.proxy_failures;
  }

  // Runtimes with different state directories may use the same id.
  static bool IsOf(const SessionCore& core, const std::string& container_id, pid_t init_pid) {
    return core.source()->container_id == container_id &&
           (init_pid <= 0 || core.init_pid() == init_pid);
  }

  // The container's init: by the runtime's word, or, for an exec where crun says 0, from the
  // session that the container began with.
  [[nodiscard]] UniqueFd InitPidfd(const oci::ContainerProcessState& state) const {
    for (const auto& [number, session] : sessions_) {
      const UniqueFd& known = session->core()->init_pidfd();
      if (known && IsOf(*session->core(), state.id, state.init_pid)) {
        return AnotherPidfd(known.get());
      }
    }
    if (state.init_pid <= 0) {
      return {};
    }
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, state.init_pid, 0)));
  }

  // One for all sessions of a container, from the first on: null before that.
  [[nodiscard]] std::shared_ptr<ContainerParts> PartsOf(const std::string& container_id,
                                                        pid_t init_pid) const {
    for (const auto& [number, session] : sessions_) {
      if (IsOf(*session->core(), container_id, init_pid)) {
        return session->core()->container();
      }
    }
    return nullptr;
  }

  // A worker may hold the last session for a moment, and must not end itself with it.
  [[nodiscard]] std::shared_ptr<Carrier> BorrowedCarrier() const {
    return {std::shared_ptr<Carrier>(), carrier_.get()};
  }

  // Before the program runs, if the runtime leaves the time.
  static void ReportInherited(const oci::ContainerProcessState& state, SessionCore& core) {
    const pid_t pid = state.pid > 0 ? state.pid : state.init_pid;
    if (pid <= 0) {
      return;
    }
    for (const InheritedSocket& socket : FindInheritedSockets(pid)) {
      core.ReportInherited(pid, socket);
    }
  }

  // On the undertaker's thread, as what follows.
  void HungUp(uint64_t number) {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(number);
    // One that has a thread ends by that.
    if (found != sessions_.end() && !found->second->Nudge()) {
      undertaker_.Ended(number);
    }
  }

  void Bury(uint64_t number) {
    std::unique_ptr<Session> session;
    {
      const std::lock_guard lock(mutex_);
      const auto found = sessions_.find(number);
      if (found == sessions_.end()) {
        return;
      }
      session = std::move(found->second);
      sessions_.erase(found);
      if (const auto bytes = state_bytes_.extract(number)) {
        bounds_.Release(session->core()->source()->container_id, bytes.mapped());
      }
      Add(session->core()->Info(), ended_);
    }
    quiet_->Remove(number);
    undertaker_.Unwatch(session->core()->notify().fd());
    kept_.Forget(*session->core());
  }

  const SessionOptions options_;
  EventSink& events_;
  const Log& log_;
  std::unique_ptr<Reactor> reactor_;
  const std::shared_ptr<GuardedCgroups> cgroups_ = std::make_shared<GuardedCgroups>();
  const std::shared_ptr<BindingSessions> binding_ = std::make_shared<BindingSessions>();
  const std::unique_ptr<QuietSessions> quiet_;
  std::unique_ptr<Carrier> carrier_;
  std::unique_ptr<Aside> resuming_ = std::make_unique<Aside>();  // its jobs use carrier_
  mutable std::mutex mutex_;
  ContainerPolicies policies_;
  std::map<uint64_t, std::unique_ptr<Session>> sessions_;
  std::map<uint64_t, size_t> state_bytes_;  // of each session
  SessionBounds bounds_;
  uint64_t next_number_ = kFirstNumber;
  KeptSessions kept_;
  SessionTotals ended_;  // of sessions that are no more in `sessions_`
  Undertaker undertaker_;
};

}  // namespace

Expected<std::unique_ptr<SessionManager>> SessionManager::Create(
    SessionOptions options, std::shared_ptr<const policy::PolicySet> policies, EventSink& events,
    const Log& log) {
  auto reactor = Reactor::Create(options.use_io_uring);
  if (!reactor) {
    return std::unexpected(std::move(reactor.error()));
  }
  auto waits = WakeableEpoll::Create(Undertaker::kWakeKey);
  if (!waits) {
    return std::unexpected(std::move(waits.error()));
  }
  if (options.use_io_uring) {
    if (const auto probe = UringCalls::Create(true); !probe) {
      log.Warning("io_uring is not available ({}): threads perform blocking calls",
                  probe.error().ToString());
      options.use_io_uring = false;
      reactor = Reactor::Create(false);
      if (!reactor) {
        return std::unexpected(std::move(reactor.error()));
      }
    }
  }
  auto quiet = QuietSessions::Create(options.quiet_after, log);
  if (!quiet) {
    return std::unexpected(std::move(quiet.error()));
  }
  return std::make_unique<Sessions>(options, std::move(policies), events, log, std::move(*reactor),
                                    std::move(*quiet), std::move(*waits));
}

}  // namespace oakum::agent
