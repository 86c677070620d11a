#include "agent/events/event_json.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "agent/events/json_text.h"

namespace oakum::agent {

namespace {

// The version of the schema whose names are used; a field that ECS wants in every document.
constexpr std::string_view kEcsVersion = "8.11.0";
constexpr int64_t kNanoseconds = 1'000'000'000;

void AppendIp(JsonComposer& composer, const policy::IpAddress& ip) {
  const auto& bytes = ip.bytes();
  std::array<char, INET6_ADDRSTRLEN> text;
  if (ip.IsV4()) {
    inet_ntop(AF_INET, bytes.data() + 12, text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
  }
  composer.Literal("address", text.data());
  composer.Literal("ip", text.data());
}

bool IsInternet(const Event& event) {
  return event.family == Event::Family::kIpv4 || event.family == Event::Family::kIpv6;
}

bool Passed(EventVerdict verdict) {
  switch (verdict) {
    case EventVerdict::kAllow:
    case EventVerdict::kAudit:
    case EventVerdict::kRedirect:
      return true;
    case EventVerdict::kDeny:
    case EventVerdict::kKill:
      return false;
  }
  return false;
}

// "event.type": values that ECS allows for the category "network".
std::string_view EventType(const Event& event) {
  const bool passed = Passed(event.verdict);
  if (event.proxy_failure) {
    return R"(["connection","info"])";
  }
  switch (event.operation) {
    case policy::Operation::kConnect:
    case policy::Operation::kSend:
    case policy::Operation::kAccept:
      return passed ? R"(["connection","allowed"])" : R"(["connection","denied"])";
    case policy::Operation::kBind:
    case policy::Operation::kListen:
    case policy::Operation::kSocket:
    case policy::Operation::kIoUring:
      break;
  }
  return passed ? R"(["info","allowed"])" : R"(["info","denied"])";
}

// "event.outcome". Under a policy that audits, calls go on in the kernel, where their result is not
// seen.
std::string_view Outcome(const Event& event) {
  if (event.inherited) {
    return "unknown";
  }
  if (event.proxy_failure) {
    return "failure";
  }
  const auto& policy = event.source_of->policy;
  if (Passed(event.verdict) && (event.verdict == EventVerdict::kAudit ||
                                (policy && policy->mode() == policy::Mode::kAudit))) {
    return "unknown";
  }
  const bool begun = event.errno_value == 0 || event.errno_value == EINPROGRESS;
  return Passed(event.verdict) && begun ? "success" : "failure";
}

void AppendEventFields(const Event& event, JsonComposer& composer) {
  composer.Literal("kind", event.leak ? "alert" : "event");
  composer.Raw("category", R"(["network"])");
  composer.Raw("type", EventType(event));
  composer.Literal("action", event.inherited       ? "inherited-socket"
                             : event.proxy_failure ? "proxy-failure"
                                                   : ToString(event.operation));
  composer.Literal("outcome", Outcome(event));
}

std::string_view TransportName(policy::Transport transport) {
  switch (transport) {
    case policy::Transport::kTcp:
      return "tcp";
    case policy::Transport::kUdp:
      return "udp";
    case policy::Transport::kOther:
      break;
  }
  return {};
}

std::string_view NetworkType(Event::Family family) {
  switch (family) {
    case Event::Family::kIpv4:
      return "ipv4";
    case Event::Family::kIpv6:
      return "ipv6";
    case Event::Family::kUnix:
      return "unix";
    case Event::Family::kNone:
    case Event::Family::kOther:
      break;
  }
  return {};
}

std::string_view Direction(policy::Operation operation) {
  switch (operation) {
    case policy::Operation::kConnect:
    case policy::Operation::kSend:
      return "egress";
    case policy::Operation::kBind:
    case policy::Operation::kListen:
    case policy::Operation::kAccept:
      return "ingress";
    case policy::Operation::kSocket:
    case policy::Operation::kIoUring:
      break;
  }
  return {};
}

void AppendNetwork(const Event& event, JsonComposer& composer) {
  const auto transport = IsInternet(event) ? TransportName(event.transport) : std::string_view();
  const auto type = NetworkType(event.family);
  const auto direction = Direction(event.operation);
  if (transport.empty() && type.empty() && direction.empty()) {
    return;
  }
  composer.Open("network");
  if (!transport.empty()) {
    composer.Literal("transport", transport);
  }
  if (!type.empty()) {
    composer.Literal("type", type);
  }
  if (!direction.empty()) {
    composer.Literal("direction", direction);
  }
  composer.Close();
}

void AppendEndpoints(const Event& event, JsonComposer& composer) {
  if (IsInternet(event)) {
    composer.Open("destination");
    AppendIp(composer, event.destination.ip);
    composer.TextUnlessEmpty("domain", event.domain);
    composer.Number("port", event.destination.port);
    composer.Close();
    if (event.operation == policy::Operation::kAccept || event.inherited) {
      composer.Open("source");
      AppendIp(composer, event.source.ip);
      composer.Number("port", event.source.port);
      composer.Close();
    }
  } else if (event.family == Event::Family::kUnix && !event.unix_name.empty()) {
    composer.Open("destination");
    composer.Text("address", event.unix_name);
    composer.Close();
  }
}

void AppendProcess(const Event& event, JsonComposer& composer) {
  if (!event.process && event.thread_id == 0) {
    return;
  }
  composer.Open("process");
  if (event.process) {
    composer.Number("pid", event.process->pid);
  }
  if (event.thread_id != 0) {
    composer.Open("thread");
    composer.Number("id", event.thread_id);
    composer.Close();
  }
  if (event.process) {
    composer.TextUnlessEmpty("executable", event.process->executable);
    composer.TextUnlessEmpty("name", event.process->name);
    composer.TextUnlessEmpty("command_line", event.process->command_line);
    composer.Open("user");
    composer.NumberText("id", event.process->uid);
    composer.Close();
  }
  composer.Close();
}

void AppendContainer(const EventSource& source, JsonComposer& composer) {
  const policy::ContainerFacts& facts = source.facts;
  composer.Open("container");
  composer.TextUnlessEmpty("id", source.container_id.empty() ? facts.id : source.container_id);
  composer.TextUnlessEmpty("name", facts.name);
  if (!facts.image.empty()) {
    composer.Open("image");
    composer.Text("name", facts.image);
    composer.Close();
  }
  composer.TextUnlessEmpty("runtime", facts.engine);
  composer.Close();
  if (!facts.ns.empty() || !facts.pod.empty()) {
    composer.Open("orchestrator");
    composer.TextUnlessEmpty("namespace", facts.ns);
    if (!facts.pod.empty()) {
      composer.Open("resource");
      composer.Text("name", facts.pod);
      composer.Close();
    }
    composer.Close();
  }
}

void AppendOakum(const Event& event, const EventCounts& counts, JsonComposer& composer) {
  composer.Open("oakum");
  if (event.source_of->policy) {
    composer.Text("policy", event.source_of->policy->name());
  }
  composer.Literal("verdict", ToString(event.verdict));
  if (event.verdict == EventVerdict::kAudit) {
    composer.Literal("would", ToString(event.would));
  }
  composer.Bool("leak", event.leak);
  composer.TextUnlessEmpty("syscall", event.syscall);
  composer.TextUnlessEmpty("detail", event.detail);
  if (counts.count != 1) {
    composer.Number("count", counts.count);
  }
  if (counts.suppressed != 0) {
    composer.Number("suppressed", counts.suppressed);
  }
  composer.Close();
}

// "2026-11-24T20:34:44"
void AppendSecond(int64_t second, std::string& out) {
  const auto seconds = static_cast<time_t>(second);
  struct tm utc = {};
  gmtime_r(&seconds, &utc);
  std::array<char, 32> text;
  out.append(text.data(), strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc));
}

// ".123456789Z"
void AppendFraction(int64_t nanoseconds, std::string& out) {
  std::array<char, 11> text = {'.'};
  for (size_t i = 9; i > 0; --i, nanoseconds /= 10) {
    text[i] = static_cast<char>('0' + nanoseconds % 10);
  }
  text.back() = 'Z';
  out.append(text.data(), text.size());
}

}  // namespace

std::string_view ToString(EventVerdict verdict) {
  switch (verdict) {
    case EventVerdict::kAllow:
      return "allow";
    case EventVerdict::kAudit:
      return "audit";
    case EventVerdict::kDeny:
      return "deny";
    case EventVerdict::kRedirect:
      return "redirect";
    case EventVerdict::kKill:
      return "kill";
  }
  return "deny";
}

std::string_view ToString(policy::Verdict verdict) {
  switch (verdict) {
    case policy::Verdict::kAllow:
      return "allow";
    case policy::Verdict::kDeny:
      return "deny";
    case policy::Verdict::kRedirect:
      return "redirect";
  }
  return "deny";
}

std::string_view ToString(policy::Operation operation) {
  switch (operation) {
    case policy::Operation::kConnect:
      return "connect";
    case policy::Operation::kSend:
      return "send";
    case policy::Operation::kBind:
      return "bind";
    case policy::Operation::kListen:
      return "listen";
    case policy::Operation::kAccept:
      return "accept";
    case policy::Operation::kSocket:
      return "socket";
    case policy::Operation::kIoUring:
      return "io_uring";
  }
  return "connect";
}

std::string_view ToString(policy::Mode mode) {
  switch (mode) {
    case policy::Mode::kAudit:
      return "audit";
    case policy::Mode::kEnforce:
      return "enforce";
    case policy::Mode::kKill:
      return "kill";
  }
  return "enforce";
}

void AppendTimestamp(int64_t time_ns, std::string& out) {
  AppendSecond(time_ns / kNanoseconds, out);
  AppendFraction(time_ns % kNanoseconds, out);
}

void EventSerializer::AppendTime(int64_t time_ns, std::string& out) {
  const int64_t second = time_ns / kNanoseconds;
  if (second != second_) {
    second_text_.clear();
    AppendSecond(second, second_text_);
    second_ = second;
  }
  out.append(second_text_);
  AppendFraction(time_ns % kNanoseconds, out);
}

void EventSerializer::Append(const Event& event, const EventCounts& counts, std::string& out) {
  JsonComposer composer(out);
  composer.Key("@timestamp");
  out.push_back('"');
  AppendTime(event.time_ns, out);
  out.push_back('"');
  composer.Open("ecs");
  composer.Literal("version", kEcsVersion);
  composer.Close();
  composer.Open("event");
  AppendEventFields(event, composer);
  if (counts.count > 1) {
    composer.Key("start");
    out.push_back('"');
    AppendTime(counts.first_ns, out);
    out.push_back('"');
  }
  composer.Close();
  AppendNetwork(event, composer);
  AppendEndpoints(event, composer);
  AppendProcess(event, composer);
  AppendContainer(*event.source_of, composer);
  if (!event.rule.empty()) {
    composer.Open("rule");
    composer.Text("name", event.rule);
    composer.Close();
  }
  if (event.errno_value != 0) {
    composer.Open("error");
    const char* name = strerrorname_np(event.errno_value);
    if (name != nullptr) {
      composer.Literal("code", name);
    } else {
      composer.NumberText("code", event.errno_value);
    }
    composer.Close();
  }
  AppendOakum(event, counts, composer);
  out.append("}\n");
}

}  // namespace oakum::agent
