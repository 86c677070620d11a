// oakum policy check, explain, schema and seccomp.
#include <fmt/format.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/events/event_json.h"
#include "base/file.h"
#include "cli/command.h"
#include "cli/policy_reload.h"
#include "cli/request_text.h"
#include "cli/seccomp_profile.h"
#include "oci/json.h"
#include "oci/seccomp_merge.h"
#include "policy/config.h"
#include "policy/container.h"
#include "policy/explain.h"
#include "policy/explain_syscall.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "policy/schema.h"
#include "policy/suggest.h"

namespace oakum::cli {

namespace {

using policy::PolicySet;

// Rules that are listed as having had no say, at most.
constexpr size_t kMaxListed = 20;
constexpr size_t kMaxProfile = size_t{16} << 20;

// What podman gives a container; Docker adds CAP_AUDIT_WRITE, CAP_MKNOD and CAP_NET_RAW.
constexpr std::array<std::string_view, 11> kDefaultCapabilities = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",    "CAP_FSETID",
    "CAP_KILL",    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",   "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT"};

// Where the policies are: options of several commands.
struct Where {
  std::optional<std::string> config;
  std::optional<std::string> policies;

  void AddTo(CLI::App& command) {
    command.add_option("--config", config, "configuration file")->type_name("FILE");
    command
        .add_option("--policies", policies,
                    "policy file or directory, instead of the configured one")
        ->type_name("FILE|DIR");
  }
};

// The configuration, or nothing after having said why not.
std::optional<policy::Config> LoadConfig(const Where& where, Context& context) {
  auto config = policy::LoadConfig(where.config, context.config_variable);
  if (!config) {
    context.Fail(kUsage, config.error().ToString());
    return std::nullopt;
  }
  return std::move(*config);
}

std::shared_ptr<const PolicySet> LoadPolicies(const Where& where, Context& context) {
  std::string path;
  if (where.policies) {
    path = *where.policies;
  } else if (const auto config = LoadConfig(where, context)) {
    path = config->policy;
  } else {
    return nullptr;
  }
  auto set = PolicySet::Load(path);
  if (!set) {
    context.err << set.error().ToString() << '\n';
    context.status = kFound;
    return nullptr;
  }
  return *set;
}

const policy::Policy* FindPolicy(const PolicySet& set, const std::string& name, Context& context) {
  const policy::Policy* found = set.Find(name);
  if (found == nullptr) {
    const std::vector<std::string> names = set.names();
    const std::vector<std::string_view> known(names.begin(), names.end());
    context.Fail(kFound, fmt::format("there is no policy \"{}\"{}", Escape(name),
                                     policy::DidYouMean(name, known)));
  }
  return found;
}

std::string Plural(size_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

void Check(const Where& where, Context& context) {
  const auto set = LoadPolicies(where, context);
  if (set != nullptr) {
    context.out << fmt::format("ok: {}, {}\n", Plural(set->names().size(), "policy", "policies"),
                               Plural(set->container_rules(), "container rule", "container rules"));
  }
}

// What becomes of a request that is not simply allowed.
std::string_view Word(policy::Mode mode, bool redirect) {
  switch (mode) {
    case policy::Mode::kAudit:
      return redirect ? "audit: it passes, and is reported as what enforce would have redirected"
                      : "audit: it passes, and is reported as what enforce would have refused";
    case policy::Mode::kEnforce:
      return redirect ? "enforce: it is carried" : "enforce: it is refused";
    case policy::Mode::kKill:
      return redirect ? "kill: it is carried" : "kill: the container ends";
  }
  return "";
}

// The proxy with its URLs, without credentials.
std::string Describe(const policy::Proxy* proxy) {
  std::string text;
  if (proxy != nullptr) {
    for (const policy::ProxyUrl& url : proxy->urls) {
      text += (text.empty() ? "" : ", ") + Escape(url.ToString());
    }
    text = fmt::format("the proxy {} ({})", Escape(proxy->name), text);
  }
  return text;
}

// How it gets there; empty for what does not.
std::string Way(const policy::Explanation& explanation) {
  if (explanation.verdict == policy::Verdict::kDeny) {
    return {};
  }
  switch (explanation.carry) {
    case policy::Carry::kDirect:
      return "direct";
    case policy::Carry::kProxy:
      return fmt::format("proxy: through {}", Describe(explanation.proxy));
    case policy::Carry::kResolver:
      return explanation.verdict == policy::Verdict::kAllow
                 ? "resolver: asked of that server, the answer watched"
                 : fmt::format("resolver: answered by the agent, with {}",
                               Describe(explanation.proxy));
    case policy::Carry::kChecked:
      return fmt::format("checked: what is spoken to {} must be as \"handshake\" says",
                         Describe(explanation.proxy));
  }
  return {};
}

std::string At(const std::string& place) {
  return place.empty() ? "" : fmt::format("  ({})", place);
}

void Print(const policy::Policy& policy, const policy::Explanation& explanation, bool outgoing,
           std::string_view request, Context& context) {
  context.out << fmt::format("{}: {}\n", agent::ToString(explanation.verdict), Escape(request));
  if (explanation.verdict != policy::Verdict::kAllow) {
    context.out << fmt::format(
        "  mode {}\n", Word(policy.mode(), explanation.verdict == policy::Verdict::kRedirect));
  }
  context.out << fmt::format("  decided by: {}{}\n", Escape(explanation.rule),
                             At(explanation.place));
  if (const std::string way = outgoing ? Way(explanation) : ""; !way.empty()) {
    context.out << fmt::format("  way: {}\n", way);
  }
  for (const std::string& note : explanation.notes) {
    context.out << fmt::format("  note: {}\n", note);
  }
  size_t listed = 0;
  for (const policy::OtherRule& other : explanation.others) {
    if (listed++ == kMaxListed) {
      context.out << fmt::format("  and {} more\n", explanation.others.size() - kMaxListed);
      break;
    }
    context.out << fmt::format("  {}: {}{}: {}\n", other.applies ? "matches, but loses" : "no say",
                               Escape(other.rule), At(other.place), other.why);
  }
}

void PrintSyscall(const policy::Policy& policy, const std::string& call, Context& context) {
  const auto explained = policy::ExplainSyscall(policy, call);
  if (!explained) {
    context.Fail(kUsage, explained.error().what);
    return;
  }
  const auto answer = [&]() -> std::string {
    switch (explained->answer) {
      case policy::SyscallExplanation::Answer::kAllowed:
        return "allow";
      case policy::SyscallExplanation::Answer::kByArguments:
        return "allow, but for some arguments";
      case policy::SyscallExplanation::Answer::kGuarded:
        return "decided by its arguments";
      case policy::SyscallExplanation::Answer::kRefused:
        return fmt::format("deny ({})", explained->errno_name);
    }
    return "deny";
  };
  context.out << fmt::format("{}: syscall {}\n  decided by: {}\n", answer(), Escape(call),
                             explained->rule);
  for (const std::string& note : explained->notes) {
    context.out << fmt::format("  note: {}\n", note);
  }
}

struct ExplainOptions {
  Where where;
  std::optional<std::string> policy;
  std::vector<std::string> container;
  std::vector<std::string> request;
};

// The policy that is asked about: the one named, or the one of the container.
const policy::Policy* ChoosePolicy(const ExplainOptions& options, const PolicySet& set,
                                   Context& context) {
  if (options.container.empty()) {
    return FindPolicy(set, *options.policy, context);
  }
  std::string joined;
  for (const std::string& part : options.container) {
    joined += joined.empty() ? part : "," + part;
  }
  const auto facts = ParseContainer(joined);
  if (!facts) {
    context.Fail(kUsage, facts.error().ToString());
    return nullptr;
  }
  const auto choice = set.Choose(*facts);
  if (!choice) {
    context.Fail(kFound, choice.error().ToString());
    return nullptr;
  }
  context.out << fmt::format("policy: {}  (rule at {})\n", choice->policy->name(), choice->rule);
  return options.policy ? FindPolicy(set, *options.policy, context) : choice->policy;
}

policy::Explanation ExplainInet(const policy::Policy& policy, const InetRequestText& request) {
  if (!request.has_address) {
    return policy::ExplainName(policy, request.inet, request.name);
  }
  policy::InetRequest inet = request.inet;
  const std::array<std::string, 1> names = {request.name};
  inet.names = std::span(names).first(request.name.empty() ? 0 : 1);
  return policy::Explain(policy, inet);
}

void Explain(const ExplainOptions& options, Context& context) {
  if (!options.policy && options.container.empty()) {
    context.Fail(kUsage, "policy explain needs --policy NAME or --container KEY=VALUE,...");
    return;
  }
  std::optional<Request> request;
  if (!options.request.empty() || options.container.empty()) {
    auto parsed = ParseRequest(options.request);
    if (!parsed) {
      context.Fail(kUsage, parsed.error().ToString());
      return;
    }
    request = std::move(*parsed);
  }
  const auto set = LoadPolicies(options.where, context);
  if (set == nullptr) {
    return;
  }
  const policy::Policy* policy = ChoosePolicy(options, *set, context);
  if (policy == nullptr || !request) {
    return;
  }
  if (const auto* syscall = std::get_if<SyscallRequestText>(&*request)) {
    PrintSyscall(*policy, syscall->name, context);
    return;
  }
  const std::string text = fmt::format("{}", fmt::join(options.request, " "));
  if (const auto* inet = std::get_if<InetRequestText>(&*request)) {
    const bool outgoing = inet->inet.operation == policy::Operation::kConnect ||
                          inet->inet.operation == policy::Operation::kSend;
    Print(*policy, ExplainInet(*policy, *inet), outgoing, text, context);
  } else {
    const auto& unix_request = std::get<UnixRequestText>(*request);
    Print(*policy,
          policy::Explain(*policy, policy::UnixRequest{.operation = unix_request.operation,
                                                       .name = unix_request.name}),
          false, text, context);
  }
}

struct SeccompOptions {
  Where where;
  std::string policy;
  std::optional<std::string> base;
  std::optional<std::string> socket;
  std::vector<std::string> capabilities;
};

Expected<oci::Json> ReadBase(const SeccompOptions& options) {
  if (!options.base) {
    return oci::Json();
  }
  auto text = ReadFile(*options.base, kMaxProfile);
  if (!text) {
    return std::unexpected(std::move(text.error()));
  }
  const auto profile = oci::ParseJson(*text, *options.base);
  if (!profile) {
    return std::unexpected(profile.error());
  }
  std::vector<std::string> capabilities(kDefaultCapabilities.begin(), kDefaultCapabilities.end());
  capabilities.insert(capabilities.end(), options.capabilities.begin(), options.capabilities.end());
  const auto target = NativeTarget(capabilities);
  if (!target) {
    return std::unexpected(target.error());
  }
  auto section = ResolveProfile(*profile, *target);
  if (!section) {
    return std::unexpected(std::move(section.error()).Context(*options.base));
  }
  return section;
}

void Seccomp(const SeccompOptions& options, Context& context) {
  const auto set = LoadPolicies(options.where, context);
  if (set == nullptr) {
    return;
  }
  const policy::Policy* policy = FindPolicy(*set, options.policy, context);
  if (policy == nullptr) {
    return;
  }
  std::string socket;
  if (options.socket) {
    socket = *options.socket;
  } else if (const auto config = LoadConfig(options.where, context)) {
    socket = config->socket;
  } else {
    return;
  }
  if (!socket.starts_with('/')) {
    context.Fail(kUsage, fmt::format("--socket \"{}\" is not an absolute path", Escape(socket)));
    return;
  }
  const auto base = ReadBase(options);
  if (!base) {
    context.Fail(kUsage, base.error().ToString());
    return;
  }
  const oci::SeccompPlan plan = policy::Plan(*policy);
  const auto merged = oci::MergeSeccomp(
      *base, plan,
      {.path = socket,
       .metadata = policy::EncodeListenerMetadata(
           {.policy = policy->name(), .facts = {}, .filter = policy::RecordOf(plan)}),
       .flags = {}});
  if (!merged) {
    context.Fail(kFound, merged.error().ToString());
    return;
  }
  context.out << merged->dump(2) << '\n';
}

void AddCheck(CLI::App& parent, Context& context) {
  const auto where = std::make_shared<Where>();
  CLI::App* command = parent.add_subcommand("check", "Say what is wrong with a policy");
  command->add_option("--config", where->config, "configuration file")->type_name("FILE");
  command
      ->add_option("path", where->policies,
                   "policy file or directory; without it, the configured one")
      ->type_name("FILE|DIR");
  command->callback([where, &context] { Check(*where, context); });
}

void AddExplain(CLI::App& parent, Context& context) {
  const auto options = std::make_shared<ExplainOptions>();
  CLI::App* command = parent.add_subcommand(
      "explain", "Say what a policy makes of a request, by which rule, and why by that one");
  options->where.AddTo(*command);
  command->add_option("--policy", options->policy, "name of the policy")->type_name("NAME");
  command
      ->add_option("--container", options->container,
                   "say which container rule matches: name=, image=, namespace=, pod=, engine=, "
                   "id=, label.KEY=, annotation.KEY=")
      ->type_name("KEY=VALUE,...")
      ->allow_extra_args(false);
  command
      ->add_option("request", options->request,
                   "connect|send ADDRESS:PORT[/tcp|/udp|/icmp][ as NAME] or NAME:PORT, "
                   "bind|listen ADDRESS:PORT, accept ADDRESS:PORT from ADDRESS, unix PATH|@NAME, "
                   "syscall NAME")
      ->type_name("REQUEST");
  command->callback([options, &context] { Explain(*options, context); });
}

void AddSchema(CLI::App& parent, Context& context) {
  CLI::App* command = parent.add_subcommand("schema", "Print the JSON Schema of the policy file");
  command->callback([&context] { context.out << policy::SchemaText(); });
}

void AddSeccomp(CLI::App& parent, Context& context) {
  const auto options = std::make_shared<SeccompOptions>();
  CLI::App* command = parent.add_subcommand(
      "seccomp",
      "Print the seccomp profile that a policy needs, for --security-opt seccomp= or a Kubernetes "
      "Localhost profile");
  options->where.AddTo(*command);
  command->add_option("--policy", options->policy, "name of the policy")
      ->type_name("NAME")
      ->required();
  command
      ->add_option("--base", options->base,
                   "profile to start from: a linux.seccomp section, a config.json, or a profile of "
                   "Docker or podman; without it everything else is allowed")
      ->type_name("FILE");
  command->add_option("--socket", options->socket, "the agent's socket, instead of the configured")
      ->type_name("PATH");
  command
      ->add_option("--cap", options->capabilities,
                   "a capability that the container has beyond podman's default ones, for rules of "
                   "the base that ask")
      ->type_name("CAP_NAME")
      ->allow_extra_args(false);
  command->callback([options, &context] { Seccomp(*options, context); });
}

}  // namespace

void AddPolicyCommand(CLI::App& program, Context& context) {
  CLI::App* command =
      program.add_subcommand("policy", "Check policies, and ask what they do and why");
  command->require_subcommand(1);
  AddCheck(*command, context);
  AddExplain(*command, context);
  AddPolicyReload(*command, context);
  AddSchema(*command, context);
  AddSeccomp(*command, context);
}

}  // namespace oakum::cli
