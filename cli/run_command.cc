// oakum run: the guard for one ordinary program and its children, with an agent in this process.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "agent/events/event_log.h"
#include "agent/proxy/tls_process.h"
#include "agent/server/short_turns.h"
#include "agent/session/session_manager.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/guarded_program.h"
#include "cli/report.h"
#include "cli/run_keeper.h"
#include "cli/run_policy.h"
#include "cli/run_sink.h"
#include "cli/supervisor.h"
#include "oci/wait_killable.h"
#include "policy/config.h"
#include "policy/container.h"
#include "policy/plan.h"
#include "policy/policy_set.h"

namespace oakum::cli {

namespace {

using policy::PolicySet;

constexpr int kExitLeak = 77;
constexpr int kExitNotExecutable = 126;  // as sh(1) has it
constexpr int kExitNotFound = 127;
constexpr int kExitSignal = 128;  // and the number of the signal
constexpr size_t kShownRows = 20;

struct Options {
  RunPolicyOptions policy;
  std::optional<std::string> report;
  std::optional<std::string> events;
  bool fail_on_leak = false;
  std::string wait_killable = "auto";
  std::vector<std::string> command;
};

using Policies = std::shared_ptr<const PolicySet>;

std::string BaseName(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

oci::ContainerProcessState StateOf(const GuardedProgram& program, const std::string& command,
                                   const policy::Policy& policy) {
  oci::ContainerProcessState state;
  state.id = fmt::format("run-{}", program.pid());
  state.pid = program.pid();
  state.init_pid = program.pid();
  policy::ListenerMetadata metadata{.policy = policy.name(), .facts = {}};
  metadata.facts.id = state.id;
  metadata.facts.name = BaseName(command);
  state.metadata = policy::EncodeListenerMetadata(metadata);
  return state;
}

// What the agent needs and the program must not inherit: called after fork(2).
Expected<void> BecomeAgent(Supervisor& supervisor) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);  // calls under way hold descriptors
  }
  // The program has our user: without this it could take over its guard by ptrace(2) or take
  // the listener by pidfd_getfd(2).
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return ErrnoError("prctl(PR_SET_DUMPABLE)");
  }
  return supervisor.TakeSignals();
}

int ExitStatus(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : kExitSignal + WTERMSIG(wait_status);
}

std::string Render(const ReportSummary& summary, std::string_view path) {
  return path.ends_with(".json") ? RenderJson(summary)
         : path.ends_with(".md") ? RenderMarkdown(summary, kMaxReportRows)
                                 : RenderText(summary, kMaxReportRows, kProgramWords);
}

// The report for the file, or, when something leaked, a short one for the terminal.
void WriteReport(const ReportSummary& summary, const Options& options, Context& context) {
  if (options.report) {
    if (auto written = ReplaceFile(*options.report, Render(summary, *options.report)); !written) {
      context.Fail(kUsage,
                   fmt::format("{}: {}", Escape(*options.report), written.error().ToString()));
    }
  } else if (summary.leaks != 0) {
    context.err << RenderText(summary, kShownRows, kProgramWords);
  }
}

bool WaitsKillable(const Options& options) {
  switch (policy::ParseWaitKillable(options.wait_killable).value_or(policy::WaitKillable::kAuto)) {
    case policy::WaitKillable::kAuto:
      return oci::KernelWaitsKillable();
    case policy::WaitKillable::kOn:
      return true;
    case policy::WaitKillable::kOff:
      return false;
  }
  return false;
}

// As this process ends after the guard, whose parent it was: a signal that ended it before there
// was a program ends this one too, as whoever has sent it expects.
int EndLike(int guard_status) {
  if (WIFSIGNALED(guard_status)) {
    const int number = WTERMSIG(guard_status);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    raise(number);
  }
  return ExitStatus(guard_status);
}

// What there is of the program at the end.
struct Outcome {
  int status = 0;         // exit status
  bool reported = false;  // the guard has done so
};

// Starts the program, or goes on with one whose guard has died, and guards it to its end.
class Run {
 public:
  Run(const Options& options, Policies policies, const policy::Policy& policy, RunSink& sink,
      Context& context)
      : options_(options),
        policies_(std::move(policies)),
        policy_(policy),
        sink_(sink),
        context_(context) {}

  // Nothing after having said why not.
  std::optional<Outcome> ToTheEnd() {
    auto supervisor = Supervisor::Create();
    if (!supervisor) {
      return Fail(supervisor.error());
    }
    if (!context_.may_fork) {
      return Ended(Guard(*supervisor, nullptr));
    }
    if (auto shared = sink_.Share(); !shared) {
      return Fail(shared.error());
    }
    void* const memory = mmap(nullptr, sizeof(ProgramEnd), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      return Fail(ErrnoError("mmap").error());
    }
    auto* const end = new (memory) ProgramEnd;  // there until the process ends
    supervisor->ShareEnd(end);
    auto role = SplitRun(*supervisor);
    if (!role) {
      return Fail(role.error());
    }
    if (const auto* ended = std::get_if<EndedRole>(&*role); ended != nullptr) {
      return Outcome{.status = EndLike(ended->status), .reported = true};
    }
    if (auto* successor = std::get_if<SuccessorRole>(&*role); successor != nullptr) {
      return Ended(Succeed(*supervisor, successor->before, nullptr, 0));
    }
    auto& guard = std::get<GuardRole>(*role);
    if (guard.before) {
      auto outcome = Ended(Succeed(*supervisor, *guard.before, guard.store.get(), guard.keeper));
      supervisor->LeaveToKeeper();
      return outcome;
    }
    supervisor->LeaveToKeeper();
    auto own = Supervisor::Create();
    if (!own) {
      return Fail(own.error());
    }
    own->HearFrom(guard.keeper);
    own->ShareEnd(end);
    return Ended(Guard(*own, guard.store.get()));
  }

 private:
  std::optional<Outcome> Fail(const Error& error) {
    context_.Fail(kUsage, error.ToString());
    return std::nullopt;
  }

  // Ends the sessions before what they use.
  std::optional<Outcome> Ended(std::optional<Outcome> outcome) {
    sessions_.reset();
    return outcome;
  }

  std::optional<Outcome> Guard(Supervisor& supervisor, RunStore* store) {
    const auto filter = OwnFilter(policy::Plan(policy_));
    if (!filter) {
      return Fail(filter.error());
    }
    auto program = GuardedProgram::Start(*filter, options_.command, WaitsKillable(options_));
    if (!program) {
      return Fail(program.error());
    }
    if (auto ready = BecomeAgent(supervisor); !ready) {
      return Fail(ready.error());
    }
    if (auto begun = Begin(supervisor, store); !begun) {
      return Fail(begun.error());
    }
    UniqueFd listener = program->TakeListener();
    const UniqueFd watched(fcntl(listener.get(), F_DUPFD_CLOEXEC, 0));
    if (!watched) {
      return Fail(ErrnoError("fcntl(F_DUPFD_CLOEXEC)").error());
    }
    if (auto kept =
            store != nullptr ? store->KeepProgram(program->pid(), watched.get()) : Expected<void>();
        !kept) {
      return Fail(kept.error());
    }
    if (auto attached = sessions_->Attach(StateOf(*program, options_.command.front(), policy_),
                                          std::move(listener));
        !attached) {
      return Fail(attached.error());
    }
    if (auto executed = program->Exec(); !executed) {
      const int code = executed.error().code;
      context_.Fail(code == ENOENT ? kExitNotFound : kExitNotExecutable, executed.error().what);
      return std::nullopt;
    }
    return Wait(supervisor, program->pid(), watched.get(), 0);
  }

  // In the place of a guard that has died. `keeper`: the program's parent, and this process's; 0:
  // this process itself.
  std::optional<Outcome> Succeed(Supervisor& supervisor, DeadGuard& before, RunStore* store,
                                 pid_t keeper) {
    context_.err << fmt::format("oakum: the guard has died (signal {}); another one goes on\n",
                                WTERMSIG(before.status))
                 << std::flush;
    sink_.Recall();
    if (auto begun = Begin(supervisor, store); !begun) {
      return Fail(begun.error());
    }
    if (const auto adopted = sessions_->Adopt(std::move(before.items)); !adopted) {
      return Fail(adopted.error());
    }
    return Wait(supervisor, before.program, before.listener.get(), keeper);
  }

  // The program has been forked before, and there is no thread yet.
  Expected<void> Begin(Supervisor& supervisor, RunStore* store) {
    agent::TakeShortTurns();
    if (options_.events) {
      auto created = agent::EventLog::Create({.path = *options_.events}, log_);
      if (!created) {
        return std::unexpected(std::move(created.error()));
      }
      event_log_ = std::move(*created);
    }
    sink_.Connect(event_log_.get(), [&supervisor] { supervisor.KillAll(); });
    agent::SessionOptions session_options;
    session_options.store = store;
    if (store != nullptr) {
      tls_process_.emplace([store](int line_fd) { return store->SpawnTls(line_fd); });
      session_options.tls_process = &*tls_process_;
    }
    auto sessions = agent::SessionManager::Create(session_options, policies_, sink_, log_);
    if (!sessions) {
      return std::unexpected(std::move(sessions.error()));
    }
    sessions_ = std::move(*sessions);
    return {};
  }

  Outcome Wait(Supervisor& supervisor, pid_t program, int listener_fd, pid_t keeper) {
    const auto on_wait = [&] {
      context_.err << fmt::format(
          "oakum: {} has ended; waiting for the processes that it left behind\n",
          Escape(options_.command.front()));
    };
    return {.status = ExitStatus(keeper > 0 ? supervisor.WaitBeside(keeper, listener_fd, on_wait)
                                            : supervisor.Wait(program, listener_fd, on_wait))};
  }

  const Options& options_;
  const Policies policies_;
  const policy::Policy& policy_;
  RunSink& sink_;
  Context& context_;
  const Log log_{"oakum", LogLevel::kError};
  std::unique_ptr<agent::EventLog> event_log_;
  std::optional<agent::TlsProcess> tls_process_;
  std::unique_ptr<agent::SessionManager> sessions_;
};

void RunCommand(Options& options, Context& context) {
  RunPolicyOptions& chosen = options.policy;
  if (!chosen.policy && !chosen.proxy) {
    chosen.proxy = context.proxy_variable;
  }
  if (const std::string conflict = Conflict(chosen); !conflict.empty()) {
    context.Fail(kUsage, conflict);
    return;
  }
  const auto policies = LoadPolicies(chosen);
  if (!policies && chosen.policy) {
    context.err << policies.error().ToString() << '\n';  // FILE:LINE:COLUMN first, for editors
    context.status = kUsage;
    return;
  }
  if (!policies) {
    context.Fail(kUsage, policies.error().ToString());
    return;
  }
  const auto policy = ChoosePolicy(**policies, chosen);
  if (!policy) {
    context.Fail(kUsage, policy.error().what);
    return;
  }
  RunSink sink;
  const auto outcome = Run(options, *policies, **policy, sink, context).ToTheEnd();
  if (!outcome) {
    return;
  }
  if (outcome->reported) {
    context.status = outcome->status;
    return;
  }
  const ReportSummary summary = sink.Summary();
  context.status = options.fail_on_leak && summary.leaks != 0 ? kExitLeak : outcome->status;
  WriteReport(summary, options, context);
}

}  // namespace

void AddRunCommand(CLI::App& program, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("run", "Guard one program and its children");
  RunPolicyOptions& policy = options->policy;
  command->add_option("--policy", policy.policy, "policy file or directory")->type_name("FILE|DIR");
  command->add_option("--name", policy.name, "which policy of the file, when it has several");
  command
      ->add_option(
          "--proxy", policy.proxy,
          "carry everything through this proxy, names included; @FILE reads the URL from a "
          "file, as does the variable OAKUM_PROXY from the environment")
      ->type_name("URL|@FILE");
  command
      ->add_option("--isolate", policy.isolate,
                   "with --proxy: who shares a circuit; none, container, process, destination or "
                   "connection")
      ->check(CLI::IsMember({"none", "container", "process", "destination", "connection"}));
  command
      ->add_option("--resolve", policy.resolve,
                   "with --proxy: how names are resolved; synthetic, tor or tcp://HOST:PORT")
      ->type_name("HOW");
  command
      ->add_option("--mode", policy.mode,
                   "without a file: audit, enforce or kill; with --proxy, enforce when left out")
      ->check(CLI::IsMember({"audit", "enforce", "kill"}));
  command
      ->add_option("--allow", policy.allow,
                   "where the program may send, with --proxy around it; may be repeated")
      ->type_name("RULE")
      ->allow_extra_args(false);
  command->add_option("--deny", policy.deny, "exceptions to --allow and --proxy; may be repeated")
      ->type_name("RULE")
      ->allow_extra_args(false);
  command
      ->add_option("--report", options->report,
                   "write the report there: .json, .md, else text; without it, leaks are shown on "
                   "standard error")
      ->type_name("FILE");
  command->add_option("--events", options->events, "append the events there; - is standard output")
      ->type_name("FILE|-");
  command
      ->add_option("--wait-killable", options->wait_killable,
                   "whether signals wait for calls that the guard answers at once; auto, on or off")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  command->add_flag("--fail-on-leak", options->fail_on_leak, "exit with 77 when there was a leak");
  command->add_option("command", options->command, "the program and its arguments")
      ->type_name("PROGRAM ARGS...")
      ->required();
  // What follows the program's name is the program's.
  command->positionals_at_end();
  command->callback([options, &context] { RunCommand(*options, context); });
}

}  // namespace oakum::cli
