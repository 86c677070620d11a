// oakum-agent: decides what guarded containers may send and receive.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "agent/agent.h"
#include "agent/kept/keeper.h"
#include "agent/kept/keeper_protocol.h"
#include "agent/kept/keeper_spawner.h"
#include "agent/kept/keeper_store.h"
#include "agent/kept/paired_store.h"
#include "agent/kept/systemd_store.h"
#include "agent/metrics.h"
#include "agent/proxy/tls_process.h"
#include "agent/proxy/tls_service.h"
#include "agent/server/privileges.h"
#include "agent/server/short_turns.h"
#include "agent/server/unix_socket.h"
#include "agent/session/session_manager.h"
#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "policy/config.h"
#include "policy/policy_set.h"

namespace oakum::agent {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
constexpr int kExitOtherVersion = 3;

struct CommandLine {
  std::optional<std::string> config;
  std::optional<std::string> socket;
  std::optional<std::string> policy;
  std::optional<std::string> events;
  std::optional<std::string> metrics;
  std::optional<std::string> control;
  std::optional<std::string> control_group;
  std::string log_level = "info";
  std::string keeper;
  bool no_io_uring = false;
  bool no_keeper = false;
  bool spawner = false;
  bool check = false;
};

void Describe(CLI::App& app, CommandLine& line) {
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.set_version_flag("--version", "oakum-agent " OAKUM_VERSION);
  app.add_option("--config", line.config, "Configuration file")->type_name("FILE");
  app.add_option("--socket", line.socket, "Where runtimes connect")->type_name("PATH");
  app.add_option("--policy", line.policy, "Policy file or directory")->type_name("FILE|DIR");
  app.add_option("--events", line.events, "Where events go; - is the standard output")
      ->type_name("PATH|-");
  app.add_option("--metrics", line.metrics, "Serve Prometheus metrics here")
      ->type_name("ADDR:PORT");
  app.add_option("--control", line.control,
                 "Socket for `oakum ps` and others; control.sock beside the socket if not given")
      ->type_name("PATH");
  app.add_option("--control-group", line.control_group,
                 "Group whose members may ask there, and change nothing")
      ->type_name("GROUP");
  app.add_option("--log-level", line.log_level, "error, warning, notice, info or debug")
      ->check(CLI::IsMember({"error", "warning", "notice", "info", "debug"}));
  app.add_flag("--no-io-uring", line.no_io_uring, "Perform what may block in threads");
  app.add_flag("--no-keeper", line.no_keeper, "Keep nothing for an agent after this one");
  app.add_option("--keeper", line.keeper, "Be the keeper of agents with the socket SOCKET")
      ->type_name("SOCKET");
  app.add_flag(kSpawnerOption, line.spawner, "With --keeper: start one when asked to")
      ->group("");  // for agents that start one
  app.add_flag("--check", line.check, "Check configuration and policy, and exit");
}

LogLevel Level(const std::string& name) {
  return name == "error"     ? LogLevel::kError
         : name == "warning" ? LogLevel::kWarning
         : name == "notice"  ? LogLevel::kNotice
         : name == "debug"   ? LogLevel::kDebug
                             : LogLevel::kInfo;
}

// Options win over the configuration file.
Expected<AgentOptions> Resolve(const CommandLine& line) {
  auto config = policy::LoadConfig(line.config, std::getenv(policy::kConfigVariable));
  if (!config) {
    return std::unexpected(std::move(config.error()));
  }
  AgentOptions options;
  options.version = OAKUM_VERSION;
  options.socket = line.socket.value_or(config->socket);
  options.policy = line.policy.value_or(config->policy);
  options.events = line.events.value_or(config->events.empty() ? "-" : config->events);
  options.metrics = line.metrics.value_or(config->metrics);
  options.control = line.control.value_or(config->control);
  options.control_group = line.control_group.value_or(config->control_group);
  return options;
}

int Check(const AgentOptions& options, const Log& log) {
  const auto policies = policy::PolicySet::Load(options.policy, policy::PolicyUse::kEnforce);
  if (!policies) {
    log.Error("{}", policies.error().what);
    return kExitFailure;
  }
  if (!options.metrics.empty()) {
    if (const auto valid = CheckTcpAddress(options.metrics); !valid) {
      log.Error("{}", valid.error().what);
      return kExitFailure;
    }
  }
  if (!options.control_group.empty()) {
    if (const auto group = FindGroup(options.control_group); !group) {
      log.Error("{}", group.error().what);
      return kExitFailure;
    }
  }
  fmt::print("{}: {} policies\n", options.policy, (*policies)->names().size());
  return EXIT_SUCCESS;
}

// Each guarded container holds a descriptor, each call under way some more.
constexpr std::chrono::seconds kLongestEnd{3};

void RaiseDescriptorLimit() {
  struct rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// Has the kernel make room for descriptors while there is one thread: to make more of it for
// several takes an RCU grace period, in which none of them gets one (expand_fdtable(), fs/file.c).
void MakeRoomForDescriptors() {
  constexpr rlim_t kRoom = 16'384;
  struct rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    const int last = static_cast<int>(std::min(limit.rlim_cur, kRoom)) - 1;
    const UniqueFd highest(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, last));
  }
}

// Another version refuses before it has taken anything over; what was kept stays where it is.
int StatusOf(const Error& error) {
  return error.code == ENOTSUP ? kExitOtherVersion : kExitFailure;
}

// An agent that was killed may take a moment to be gone.
constexpr std::chrono::seconds kPatience{3};

// systemd's store where it is there, beside it a keeper that its unit names, else a keeper alone.
// Starts what starts processes, too.
Expected<OpenedStore> OpenStore(const std::string& socket,
                                std::shared_ptr<KeeperSpawner>& spawner) {
  auto systemd = OpenSystemdStore();
  if (!systemd) {
    return std::unexpected(std::move(systemd.error()));
  }
  // Only now: what systemd has kept would be inherited before.
  auto started = KeeperSpawner::Start(socket);
  if (!started) {
    return std::unexpected(std::move(started.error()));
  }
  spawner = std::make_shared<KeeperSpawner>(std::move(*started));
  if (!*systemd) {
    return OpenKeeperStore(socket, spawner, kPatience);
  }
  const char* const keeper = std::getenv(kKeeperVariable);
  return keeper != nullptr && *keeper != '\0'
             ? OpenPairedStore(std::move(**systemd), keeper, kPatience)
             : Expected<OpenedStore>(std::move(**systemd));
}

int Keep(const std::string& socket, bool spawner, const Log& log) {
  umask(022);
  for (const int number : {SIGPIPE, SIGHUP, SIGINT}) {
    signal(number, SIG_IGN);
  }
  RaiseDescriptorLimit();
  const auto ran =
      spawner
          ? RunKeeperSpawner(
                socket,
                [](UniqueFd line) { return RunTlsProcess(std::move(line), MaxTlsConnections()); },
                log)
          : RunKeeper(KeeperPath(socket), KeeperLife::kForEver, log);
  if (!ran) {
    log.Error("{}", ran.error().ToString());
  }
  return ran ? EXIT_SUCCESS : kExitFailure;
}

int Serve(AgentOptions options, const CommandLine& line, const Log& log) {
  umask(022);
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();
  // Before anything is taken over.
  for (const std::string& path : {options.socket, options.control}) {
    if (auto ours = path.empty() ? Expected<void>() : CheckSocketPath(path); !ours) {
      log.Error("{}", ours.error().what);
      return kExitFailure;
    }
  }
  OpenedStore opened;
  std::optional<TlsProcess> tls;
  if (!line.no_keeper) {
    std::shared_ptr<KeeperSpawner> spawner;
    auto store = OpenStore(options.socket, spawner);
    if (!store) {
      log.Error("{}", store.error().ToString());
      return StatusOf(store.error());
    }
    opened = std::move(*store);
    tls.emplace([spawner](int line_fd) { return spawner->SpawnTls(line_fd); });
  }
  // After the keeper has begun, which needs neither.
  MakeRoomForDescriptors();
  TakeShortTurns();
  if (const auto given_up = GiveUpPrivileges(); !given_up) {
    log.Error("{}", given_up.error().ToString());
    return kExitFailure;
  }
  auto signals = BlockSignals();
  if (!signals) {
    log.Error("{}", signals.error().what);
    return kExitFailure;
  }
  options.store = opened.store.get();
  auto agent = Agent::Create(
      std::move(options), std::move(*signals),
      [use_io_uring = !line.no_io_uring, store = opened.store.get(),
       tls_process = tls ? &*tls : nullptr](std::shared_ptr<const policy::PolicySet> policies,
                                            EventSink& events, const Log& session_log) {
        SessionOptions session_options;
        session_options.use_io_uring = use_io_uring;
        session_options.store = store;
        session_options.tls_process = tls_process;
        return SessionManager::Create(session_options, std::move(policies), events, session_log);
      },
      log, std::move(opened.items));
  if (!agent) {
    log.Error("{}", agent.error().what);
    return StatusOf(agent.error());
  }
  const auto ran = (*agent)->Run();
  if (!ran) {
    log.Error("{}", ran.error().what);
  }
  const int status = ran ? EXIT_SUCCESS : kExitFailure;
  // A container can hold up the thread that reads its memory (userfaultfd(2), fuse(4)) for as long
  // as it likes; the end of the agent does not wait for it.
  std::thread([status] {
    std::this_thread::sleep_for(kLongestEnd);
    _exit(status);
  }).detach();
  return status;
}

int Main(int argc, char** argv) {
  CLI::App app("Decides what guarded containers may send and receive.", "oakum-agent");
  CommandLine line;
  Describe(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);  // --help, --version
  } catch (const CLI::ParseError& error) {
    std::string what = error.what();
    std::replace(what.begin(), what.end(), '\n', ' ');
    fmt::print(stderr, "oakum-agent: error: {}; see oakum-agent --help\n", Escape(what, 1024));
    return kExitUsage;
  }
  // journald sets JOURNAL_STREAM for whom it listens to (systemd.exec(5)).
  const Log log("oakum-agent", Level(line.log_level), std::getenv("JOURNAL_STREAM") != nullptr);
  if (!line.keeper.empty()) {
    return Keep(line.keeper, line.spawner, log);
  }
  auto options = Resolve(line);
  if (!options) {
    log.Error("{}", options.error().what);
    return kExitFailure;
  }
  return line.check ? Check(*options, log) : Serve(std::move(*options), line, log);
}

}  // namespace
}  // namespace oakum::agent

int main(int argc, char** argv) { return oakum::agent::Main(argc, argv); }
