#include "agent/agent.h"

#include <fmt/format.h>
#include <grp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <ctime>
#include <utility>

#include "agent/control.h"
#include "agent/metrics.h"
#include "base/trusted_path.h"

namespace oakum::agent {

namespace {

// How long until another attempt to find a keeper, and to hand it what it could not take.
constexpr std::chrono::seconds kRenewAgain{1};
constexpr std::chrono::milliseconds kKeepRestAfter{20};

int64_t RealtimeNs() {
  using std::chrono::nanoseconds;
  return std::chrono::duration_cast<nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// RELOADING=1 wants the time of CLOCK_MONOTONIC (sd_notify(3)).
std::string ReloadingMessage() {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                     int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000);
}

// Nobody to tell, outside systemd, is no failure.
void Notify(const std::string& message) { sd_notify(0, message.c_str()); }

}  // namespace

Expected<gid_t> FindGroup(const std::string& group) {
  gid_t number = 0;
  const auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), number);
  if (error == std::errc() && end == group.data() + group.size()) {
    return number;
  }
  constexpr size_t kMaxGroupEntry = size_t{1} << 20;
  std::vector<char> buffer(kMaxGroupEntry);
  ::group entry = {};
  ::group* found = nullptr;
  if (const int code = getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found);
      code != 0) {
    return ErrnoError(code, fmt::format("control group {}", group));
  }
  if (found == nullptr) {
    return MakeError(ENOENT, fmt::format("control group {}: there is no such group", group));
  }
  return found->gr_gid;
}

Expected<UniqueFd> BlockSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGTERM, SIGINT}) {
    sigaddset(&set, signal);
  }
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return ErrnoError(error, "pthread_sigmask");
  }
  UniqueFd fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd) {
    return ErrnoError("signalfd");
  }
  return fd;
}

Expected<std::unique_ptr<Agent>> Agent::Create(AgentOptions options, UniqueFd signals,
                                               const MakeSessions& make_sessions, const Log& log,
                                               std::vector<KeptItem> kept) {
  std::unique_ptr<Agent> agent(new Agent(std::move(options), std::move(signals), log));
  if (auto started = agent->Start(make_sessions, std::move(kept)); !started) {
    return std::unexpected(std::move(started.error()));
  }
  return agent;
}

Agent::Agent(AgentOptions options, UniqueFd signals, const Log& log)
    : options_(std::move(options)), log_(log), signals_(std::move(signals)) {
  if (options_.control.empty()) {
    options_.control = DefaultControlPath(options_.socket);
  }
  status_.version = options_.version;
  status_.pid = getpid();
  status_.started_ns = RealtimeNs();
  status_.socket_path = options_.socket;
  status_.events_path = options_.events;
  status_.policy_path = options_.policy;
}

Agent::~Agent() {
  if (loop_) {
    loop_->Remove(signals_.get());
    loop_->Remove(store_fd_);
  }
}

Expected<void> Agent::Start(const MakeSessions& make_sessions, std::vector<KeptItem> kept) {
  auto loop = EventLoop::Create();
  if (!loop) {
    return std::unexpected(std::move(loop.error()));
  }
  loop_ = std::move(*loop);
  auto policies = policy::PolicySet::Load(options_.policy, policy::PolicyUse::kEnforce);
  if (!policies) {
    return std::unexpected(std::move(policies.error()));
  }
  policies_ = std::move(*policies);
  status_.policies = policies_->names();
  status_.policy_loaded_ns = RealtimeNs();
  auto events = EventLog::Create({.path = options_.events}, log_);
  if (!events) {
    return std::unexpected(std::move(events.error()));
  }
  events_ = std::move(*events);
  auto sessions = make_sessions(policies_, *events_, log_);
  if (!sessions) {
    return std::unexpected(std::move(sessions.error()).Context("sessions"));
  }
  sessions_ = std::move(*sessions);
  // Before anything else is begun: their containers are waiting.
  const auto adopted = sessions_->Adopt(std::move(kept));
  if (!adopted) {
    return std::unexpected(adopted.error());
  }
  if (*adopted > 0) {
    log_.Notice("{} of an agent before this one go on",
                *adopted == 1 ? std::string("1 session") : fmt::format("{} sessions", *adopted));
  }
  if (auto added = loop_->Add(signals_.get(), EPOLLIN, [this](uint32_t) { HandleSignal(); });
      !added) {
    return added;
  }
  if (options_.store != nullptr && options_.store->loses_connections_only() &&
      options_.store->lost_fd() < 0) {
    RenewStore();  // its keeper may come later
  } else {
    WatchStore();
  }
  return StartServers();
}

// Who keeps the sessions serves one agent at a time: another one that still listens is ending.
std::chrono::milliseconds Agent::Patience() const {
  constexpr std::chrono::milliseconds kPatience{3'000};
  return options_.store != nullptr ? kPatience : std::chrono::milliseconds(0);
}

void Agent::WatchStore() {
  store_fd_ = options_.store != nullptr ? options_.store->lost_fd() : -1;
  if (store_fd_ < 0) {
    return;
  }
  const auto added = loop_->Add(store_fd_, EPOLLIN | EPOLLRDHUP, [this](uint32_t) {
    loop_->Remove(std::exchange(store_fd_, -1));
    const bool has_sessions = !options_.store->loses_connections_only();
    log_.Warning("{}", has_sessions ? "the keeper has ended: another one is started"
                                    : "the keeper of connections has ended");
    RenewStore();
    if (store_lost_ && MayKeep()) {
      sessions_->KeepAgain();
      KeepRest();
    }
  });
  if (!added) {
    log_.Error("keeper: {}", added.error().ToString());
  }
}

bool Agent::MayKeep() const { return !store_lost_ || options_.store->loses_connections_only(); }

void Agent::RenewStore() {
  if (const auto renewed = options_.store->Renew(); !renewed) {
    if (!std::exchange(store_lost_, true)) {
      log_.Error("{}; {}, until there is a keeper", renewed.error().ToString(),
                 MayKeep() ? "connections younger than 50 ms are reset when this agent is killed"
                           : "what containers call will fail when this agent ends");
    }
    loop_->AddTimer(kRenewAgain, [this] { RenewStore(); });
    return;
  }
  store_lost_ = false;
  WatchStore();
  sessions_->KeepAgain();
  KeepRest();
}

// A keeper takes them in its own time.
void Agent::KeepRest() {
  const auto left = sessions_->KeepRest();
  if (left == 0) {
    log_.Notice("what there is to keep is kept again");
  } else if (MayKeep()) {
    loop_->AddTimer(kKeepRestAfter, [this] { KeepRest(); });
  }
}

Expected<void> Agent::StartControl() {
  if (!options_.control_group.empty()) {
    const auto group = FindGroup(options_.control_group);
    if (!group) {
      return std::unexpected(group.error());
    }
    control_group_ = *group;
  }
  auto control_socket =
      UnixListener::Create(options_.control, SOCK_STREAM, control_group_, Patience());
  if (!control_socket) {
    return std::unexpected(std::move(control_socket.error()).Context("control"));
  }
  control_socket_ = std::make_unique<UnixListener>(std::move(*control_socket));
  auto control = TextServer::Create(
      *loop_, control_socket_->fd(),
      {.name = "control",
       .terminator = "\n",
       .too_long = ControlError(fmt::format("a request is at most {} bytes", kMaxControlRequest)),
       .max_clients = kMaxControlClients,
       .max_request = kMaxControlRequest},
      [this](int socket_fd) { return AdmitToControl(socket_fd); },
      [this](std::string_view request, const Peer& client) {
        return TextServer::Reply{
            .text = AnswerControl(
                request, IsRootOrSelf(client.uid) ? ControlRights::kAll : ControlRights::kRead,
                {.status = [this] { return Status(); },
                 .reload = [this] { return Reload(); },
                 .reopen = [this] { events_->Reopen(); }})};
      },
      log_);
  if (!control) {
    return std::unexpected(std::move(control.error()).Context("control"));
  }
  control_ = std::move(*control);
  return {};
}

std::optional<Peer> Agent::AdmitToControl(int socket_fd) {
  const auto peer = PeerOf(socket_fd);
  if (peer &&
      (IsRootOrSelf(peer->uid) || (control_group_ && PeerHasGroup(socket_fd, *control_group_)))) {
    return *peer;
  }
  if (const auto more = refusals_.Ask(EventLoop::Clock::now()); more) {
    log_.Warning("control: user {} is neither root nor the agent's own, nor in its group{}",
                 peer ? static_cast<int64_t>(peer->uid) : -1, *more);
  }
  return std::nullopt;
}

Expected<void> Agent::StartMetrics() {
  auto metrics_socket = ListenTcp(options_.metrics);
  if (!metrics_socket) {
    return std::unexpected(std::move(metrics_socket.error()));
  }
  metrics_socket_ = std::move(*metrics_socket);
  auto metrics = TextServer::Create(
      *loop_, metrics_socket_.get(),
      {.name = "metrics",
       .terminator = "\r\n\r\n",
       .too_long = HttpError("431 Request Header Fields Too Large"),
       .max_clients = kMaxHttpClients,
       .max_request = kMaxHttpRequest},
      [](int) { return Peer(); },
      [this](std::string_view head, const Peer&) {
        return AnswerHttp(head, [this] { return Status(); });
      },
      log_);
  if (!metrics) {
    return std::unexpected(std::move(metrics.error()).Context("metrics"));
  }
  metrics_ = std::move(*metrics);
  return {};
}

// The runtimes' listener comes last: who finds its socket finds the others too.
Expected<void> Agent::StartServers() {
  if (auto started = StartControl(); !started) {
    return started;
  }
  if (!options_.metrics.empty()) {
    if (auto started = StartMetrics(); !started) {
      return started;
    }
  }
  auto listener = Listener::Create(
      *loop_, options_.socket,
      [this](const oci::ContainerProcessState& state, UniqueFd notify_fd) {
        auto attached = sessions_->Attach(state, std::move(notify_fd));
        if (sessions_->left_to_keep() && MayKeep()) {
          loop_->AddTimer(kKeepRestAfter, [this] { KeepRest(); });
        }
        return attached;
      },
      log_, Patience());
  if (!listener) {
    return std::unexpected(std::move(listener.error()));
  }
  listener_ = std::move(*listener);
  return {};
}

Expected<void> Agent::Run() {
  if (sd_watchdog_enabled(0, &watchdog_us_) > 0) {
    KickWatchdog();
  }
  log_.Info("listening on {}; {} from {}; events to {}", options_.socket,
            status_.policies.size() == 1 ? "1 policy"
                                         : fmt::format("{} policies", status_.policies.size()),
            options_.policy, options_.events == "-" ? "the standard output" : options_.events);
  Notify("READY=1");
  auto ran = loop_->Run();
  Notify("STOPPING=1");
  return ran;
}

// Half the time that systemd allows, as sd_watchdog_enabled(3) recommends.
void Agent::KickWatchdog() {
  Notify("WATCHDOG=1");
  loop_->AddTimer(std::chrono::microseconds(watchdog_us_ / 2), [this] { KickWatchdog(); });
}

void Agent::HandleSignal() {
  struct signalfd_siginfo info = {};
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGHUP) {
      (void)Reload();
    } else {
      log_.Info("ending on {}", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
      loop_->Stop();
    }
  }
}

Expected<void> Agent::Reload() {
  Notify(ReloadingMessage());
  events_->Reopen();
  ++status_.reloads;
  auto policies = policy::PolicySet::Load(options_.policy, policy::PolicyUse::kEnforce);
  if (policies) {
    policies_ = *policies;
    sessions_->SetPolicies(policies_);
    ++status_.policy_generation;
    status_.policies = policies_->names();
    status_.policy_loaded_ns = RealtimeNs();
    status_.policy_error.clear();
    log_.Notice("policy {} is read again: {} policies", options_.policy, status_.policies.size());
  } else {
    ++status_.failed_reloads;
    status_.policy_error = policies.error().what;
    log_.Error("{}; the policy that was read before stays in force", policies.error().what);
  }
  Notify("READY=1");
  return policies ? Expected<void>() : std::unexpected(std::move(policies.error()));
}

AgentStatus Agent::Status() const {
  AgentStatus status = status_;
  status.sessions = sessions_->List();
  status.totals = sessions_->Totals();
  status.listener = listener_->Counts();
  status.events = events_->Stats();
  return status;
}

}  // namespace oakum::agent
