#include "cli/request_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "policy/rule_text.h"
#include "policy/suggest.h"

namespace oakum::cli {

namespace {

using policy::ContainerFacts;
using policy::Endpoint;
using policy::Operation;
using policy::Transport;

struct Verb {
  std::string_view word;
  Operation operation;
  Transport transport;  // when the request names none
};

constexpr std::array<Verb, 5> kVerbs = {{{"connect", Operation::kConnect, Transport::kTcp},
                                         {"send", Operation::kSend, Transport::kUdp},
                                         {"bind", Operation::kBind, Transport::kTcp},
                                         {"listen", Operation::kListen, Transport::kTcp},
                                         {"accept", Operation::kAccept, Transport::kTcp}}};
constexpr std::array<std::string_view, 7> kVerbWords = {"connect", "send", "bind",   "listen",
                                                        "accept",  "unix", "syscall"};

struct Target {
  Endpoint endpoint;
  std::string name;  // instead of the address
  std::optional<Transport> transport;
};

Expected<Target> ParseTarget(std::string_view text, bool needs_port, bool takes_name = false) {
  Target target;
  std::string_view rest = text;
  static constexpr std::string_view kIcmp = "/icmp";
  if (rest.ends_with(kIcmp)) {
    rest.remove_suffix(kIcmp.size());
    target.transport = Transport::kOther;
    needs_port = false;
  }
  // No rule can name port 0, but bind(2) can.
  std::string without_zero(rest);
  static constexpr std::string_view kZero = ":0";
  if (const size_t zero = without_zero.rfind(kZero);
      zero != std::string::npos &&
      (zero + kZero.size() == without_zero.size() || without_zero[zero + kZero.size()] == '/')) {
    without_zero.erase(zero, kZero.size());
    needs_port = false;
  }
  const auto rule = policy::ParseRule(without_zero, policy::RuleKind::kIncoming);
  if (!rule) {
    return MakeError(EINVAL, rule.error().what);
  }
  const uint8_t whole = rule->host.family == policy::Family::kV4 ? 32 : 128;
  if (!rule->domain.empty() && takes_name && !rule->domain.starts_with('*')) {
    target.name = policy::NormalName(rule->domain);
  } else if (!rule->domain.empty()) {
    return MakeError(EINVAL, fmt::format("\"{}\" is a name; a request has an address, as the "
                                         "program's call has it",
                                         Escape(text)));
  }
  if (target.name.empty() &&
      (rule->host.family == policy::Family::kAny || rule->host.length != whole || rule->from)) {
    return MakeError(EINVAL, fmt::format("\"{}\" is not one address", Escape(text)));
  }
  if (rule->ports.size() > 1 ||
      (rule->ports.size() == 1 && rule->ports[0].first != rule->ports[0].last)) {
    return MakeError(EINVAL, fmt::format("\"{}\" has more than one port", Escape(text)));
  }
  if (rule->ports.empty() && needs_port) {
    return MakeError(EINVAL, fmt::format("\"{}\" has no port; write ADDRESS:PORT", Escape(text)));
  }
  target.endpoint = {.ip = rule->host.address,
                     .port = rule->ports.empty() ? uint16_t{0} : rule->ports[0].first};
  if (rule->transport) {
    target.transport = rule->transport;
  }
  return target;
}

// The words after the verb: TARGET, `ADDRESS:PORT as NAME`, or `ADDRESS:PORT from ADDRESS`.
Expected<Request> ParseInet(const Verb& verb, std::span<const std::string> words) {
  const bool accept = verb.operation == Operation::kAccept;
  const bool outgoing = verb.operation == Operation::kConnect || verb.operation == Operation::kSend;
  const bool as = outgoing && words.size() == 3 && words[1] == "as";
  if (!as && (words.size() != (accept ? 3U : 1U) || (accept && words[1] != "from"))) {
    return MakeError(EINVAL, fmt::format("write: {} ADDRESS:PORT{}", verb.word,
                                         accept ? " from ADDRESS" : "[/tcp|/udp|/icmp]"));
  }
  auto target = ParseTarget(words[0], true, outgoing && !as);
  if (!target) {
    return std::unexpected(std::move(target.error()));
  }
  InetRequestText request{.inet = {.operation = verb.operation,
                                   .transport = target->transport.value_or(verb.transport),
                                   .remote = {},
                                   .local = {}},
                          .name = target->name,
                          .has_address = target->name.empty()};
  if (as) {
    auto name = ParseTarget(words[2], false, true);
    if (!name || name->name.empty() || name->endpoint.port != 0) {
      return MakeError(EINVAL, fmt::format("\"{}\" is not a name", Escape(words[2])));
    }
    request.name = std::move(name->name);
  }
  if (outgoing) {
    request.inet.remote = target->endpoint;
    return request;
  }
  request.inet.local = target->endpoint;
  if (accept) {
    auto peer = ParseTarget(words[2], false);
    if (!peer) {
      return std::unexpected(std::move(peer.error()));
    }
    request.inet.remote = peer->endpoint;
  }
  return request;
}

using Field = std::pair<std::string_view, std::string ContainerFacts::*>;
constexpr std::array<Field, 6> kFields = {{{"name", &ContainerFacts::name},
                                           {"image", &ContainerFacts::image},
                                           {"namespace", &ContainerFacts::ns},
                                           {"pod", &ContainerFacts::pod},
                                           {"engine", &ContainerFacts::engine},
                                           {"id", &ContainerFacts::id}}};
constexpr std::array<std::string_view, 8> kFieldNames = {
    "name", "image", "namespace", "pod", "engine", "id", "label.KEY", "annotation.KEY"};

bool SetFact(ContainerFacts& facts, std::string_view key, std::string_view value) {
  static constexpr std::string_view kLabel = "label.";
  static constexpr std::string_view kAnnotation = "annotation.";
  if (key.starts_with(kLabel) && key.size() > kLabel.size()) {
    facts.labels[std::string(key.substr(kLabel.size()))] = value;
    return true;
  }
  if (key.starts_with(kAnnotation) && key.size() > kAnnotation.size()) {
    facts.annotations[std::string(key.substr(kAnnotation.size()))] = value;
    return true;
  }
  const auto* const field = std::find_if(kFields.begin(), kFields.end(),
                                         [&](const Field& known) { return known.first == key; });
  if (field == kFields.end()) {
    return false;
  }
  facts.*field->second = value;
  return true;
}

}  // namespace

Expected<Request> ParseRequest(std::span<const std::string> words) {
  if (words.empty()) {
    return MakeError(EINVAL, "no request; for example: connect 10.1.2.3:443/tcp");
  }
  if (words[0] == "unix") {
    if (words.size() != 2 || (!words[1].starts_with('/') && !words[1].starts_with('@'))) {
      return MakeError(EINVAL, "write: unix /PATH, or: unix @NAME");
    }
    return UnixRequestText{.name = words[1]};
  }
  if (words[0] == "syscall") {
    if (words.size() != 2) {
      return MakeError(EINVAL, "write: syscall NAME");
    }
    return SyscallRequestText{.name = words[1]};
  }
  for (const Verb& verb : kVerbs) {
    if (verb.word == words[0]) {
      return ParseInet(verb, words.subspan(1));
    }
  }
  return MakeError(EINVAL, fmt::format("unknown request \"{}\"{}", Escape(words[0]),
                                       policy::DidYouMean(words[0], kVerbWords)));
}

Expected<ContainerFacts> ParseContainer(std::string_view text) {
  ContainerFacts facts;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view item = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      return MakeError(EINVAL, fmt::format("\"{}\" is not KEY=VALUE in --container", Escape(item)));
    }
    const std::string_view key = item.substr(0, equals);
    if (!SetFact(facts, key, item.substr(equals + 1))) {
      return MakeError(EINVAL, fmt::format("unknown key \"{}\" in --container{}", Escape(key),
                                           policy::DidYouMean(key, kFieldNames)));
    }
  }
  return facts;
}

}  // namespace oakum::cli
