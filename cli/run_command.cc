// oakum run: the guard for one ordinary program and its children, with an agent in this process.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/events/event_log.h"
#include "agent/session/session_manager.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/guarded_program.h"
#include "cli/report.h"
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

// Runs the program to its end; the exit status, or nothing after having said why not.
std::optional<int> RunGuarded(const Options& options, const Policies& policies,
                              const policy::Policy& policy, RunSink& sink, Context& context) {
  const auto fail = [&](const Error& error) {
    context.Fail(kUsage, error.ToString());
    return std::nullopt;
  };
  const auto filter = OwnFilter(policy::Plan(policy));
  if (!filter) {
    return fail(filter.error());
  }
  auto supervisor = Supervisor::Create();
  if (!supervisor) {
    return fail(supervisor.error());
  }
  auto program = GuardedProgram::Start(*filter, options.command, WaitsKillable(options));
  if (!program) {
    return fail(program.error());
  }
  if (auto ready = BecomeAgent(*supervisor); !ready) {
    return fail(ready.error());
  }
  const Log log("oakum", LogLevel::kError);
  std::unique_ptr<agent::EventLog> event_log;
  if (options.events) {
    auto created = agent::EventLog::Create({.path = *options.events}, log);
    if (!created) {
      return fail(created.error());
    }
    event_log = std::move(*created);
  }
  sink.Connect(event_log.get(), [&supervisor] { supervisor->KillAll(); });
  auto sessions = agent::SessionManager::Create({}, policies, sink, log);
  if (!sessions) {
    return fail(sessions.error());
  }
  UniqueFd listener = program->TakeListener();
  const UniqueFd watched(fcntl(listener.get(), F_DUPFD_CLOEXEC, 0));
  if (!watched) {
    return fail(ErrnoError("fcntl(F_DUPFD_CLOEXEC)").error());
  }
  const std::string& command = options.command.front();
  if (auto attached = (*sessions)->Attach(StateOf(*program, command, policy), std::move(listener));
      !attached) {
    return fail(attached.error());
  }
  if (auto executed = program->Exec(); !executed) {
    const int code = executed.error().code;
    context.Fail(code == ENOENT ? kExitNotFound : kExitNotExecutable, executed.error().what);
    return std::nullopt;
  }
  const int status = supervisor->Wait(program->pid(), watched.get(), [&] {
    context.err << fmt::format(
        "oakum: {} has ended; waiting for the processes that it left behind\n", Escape(command));
  });
  return ExitStatus(status);
}

void Run(Options& options, Context& context) {
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
  const auto status = RunGuarded(options, *policies, **policy, sink, context);
  if (!status) {
    return;
  }
  const ReportSummary summary = sink.Summary();
  context.status = options.fail_on_leak && summary.leaks != 0 ? kExitLeak : *status;
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
  command->callback([options, &context] { Run(*options, context); });
}

}  // namespace oakum::cli
