#include "policy/checked.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <regex>

#include "base/error.h"
#include "policy/check_container.h"
#include "policy/check_context.h"
#include "policy/check_syscalls.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

using Word = std::string_view;
using syntax::Text;

constexpr size_t kMaxRegex = 256;

constexpr std::array kModes = {Word("audit"), Word("enforce"), Word("kill")};
constexpr std::array kLogs = {Word("leaks"), Word("all")};
constexpr std::array kOutgoingDefaults = {Word("allow"), Word("deny"), Word("redirect")};
constexpr std::array kDefaults = {Word("allow"), Word("deny")};
constexpr std::array kDnsWords = {Word("allow"), Word("deny"), Word("proxy")};
constexpr std::array kIsolations = {Word("none"), Word("container"), Word("process"),
                                    Word("destination"), Word("connection")};
constexpr std::array kHandshakes = {Word("socks5"), Word("http")};
constexpr std::array kAuths = {Word("any"), Word("none"), Word("password"), Word("tor")};
constexpr std::array kOnLeak = {Word("stack"), Word("core")};

constexpr std::array kAllWords = {
    Words{"mode", kModes},
    Words{"log", kLogs},
    Words{"outgoing_default", kOutgoingDefaults},
    Words{"default", kDefaults},
    Words{"dns", kDnsWords},
    Words{"isolate", kIsolations},
    Words{"require", kHandshakes},
    Words{"auth", kAuths},
    Words{"on_leak", kOnLeak},
    Words{"base", kSyscallBases},
};

// "an \"outgoing.allow\" rule" and the verdict it gives.
struct ListKind {
  Word name;
  Verdict verdict;
};

class Checker {
 public:
  Checker(const Sources& sources, Diagnostics& diagnostics) : context_(sources, diagnostics) {}

  CheckedSet Run(std::span<const syntax::File> files) {
    for (const syntax::File& file : files) {
      for (const syntax::Proxy& proxy : file.proxies) {
        CheckProxy(proxy);
      }
      for (const syntax::Policy& policy : file.policies) {
        Claim(policies_, policy.name, "policy");
      }
    }
    policy_names_ = NamesOf(policies_);
    proxy_names_ = NamesOf(proxies_);
    CheckedSet set;
    for (const syntax::File& file : files) {
      for (const syntax::Policy& policy : file.policies) {
        set.policies.push_back(CheckPolicy(policy));
      }
      for (const syntax::ContainerRule& rule : file.containers) {
        set.containers.push_back(CheckContainerRule(rule, policy_names_, context_));
      }
    }
    return set;
  }

 private:
  struct Proxy {
    Location at;
    std::vector<ProxyUrl> urls;
  };

  Place PlaceOf(Location at) const { return context_.PlaceOf(at); }
  void Say(Location at, std::string_view what) { context_.Say(at, what); }
  void NotBuilt(Location at, std::string_view what) { context_.NotBuilt(at, what); }
  std::optional<size_t> Choose(const std::optional<Text>& text, Word key,
                               std::span<const Word> words) {
    return context_.Choose(text, key, words);
  }

  template <typename T>
  static std::vector<Word> NamesOf(const std::map<Word, T>& named) {
    std::vector<Word> names;
    names.reserve(named.size());
    for (const auto& [name, value] : named) {
      names.push_back(name);
    }
    return names;
  }

  // Notes the name of a policy or proxy; says so when it is malformed or taken.
  void Claim(std::map<Word, Location>& taken, const Text& name, Word what) {
    const auto valid = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    };
    if (name.value.empty() || name.value.size() > kMaxNameLength || name.value[0] == '.' ||
        !std::all_of(name.value.begin(), name.value.end(), valid)) {
      Say(name.at, fmt::format("\"{}\" is no name for a {}: 1 to {} letters, digits, \"-\", \"_\" "
                               "or \".\", not starting with \".\"",
                               Escape(name.value), what, kMaxNameLength));
    }
    if (const auto [old, fresh] = taken.emplace(name.value, name.at); !fresh) {
      Say(name.at, fmt::format("a {} \"{}\" stands already at {}", what, Escape(name.value),
                               context_.sources().Describe(old->second)));
    }
  }

  void CheckProxy(const syntax::Proxy& proxy) {
    Claim(proxy_places_, proxy.name, "proxy");
    Proxy& checked = proxies_[proxy.name.value];
    checked.at = proxy.name.at;
    for (const Text& text : proxy.urls) {
      if (auto url = ParseProxyUrl(text.value); url) {
        checked.urls.push_back(std::move(*url));
      } else {
        Say(text.at, url.error());
      }
    }
    (void)Choose(proxy.isolate, "isolate", kIsolations);
  }

  CheckedPolicy CheckPolicy(const syntax::Policy& policy) {
    CheckedPolicy checked;
    checked.name = policy.name.value;
    checked.place = PlaceOf(policy.name.at);
    if (const auto mode = Choose(policy.mode, "mode", kModes); mode == 0U) {
      checked.mode = Mode::kAudit;
    } else if (mode == 2U) {
      checked.mode = Mode::kKill;
    }
    if (Choose(policy.log, "log", kLogs) == 1U) {
      checked.log = LogLevel::kAll;
    }
    if (policy.outgoing) {
      CheckOutgoing(*policy.outgoing, checked);
    }
    CheckDns(policy, checked);
    if (policy.incoming) {
      CheckIncoming(*policy.incoming, checked);
    }
    if (policy.unix_sockets) {
      CheckUnix(*policy.unix_sockets, checked);
    }
    if (policy.proxy) {
      AddProxy(*policy.proxy, checked);
    }
    CheckHandshake(policy);
    for (const Text& text : policy.on_leak) {
      if (Choose(text, "on_leak", kOnLeak)) {
        NotBuilt(text.at, "\"on_leak\"");
      }
    }
    checked.syscalls = CheckSyscalls(policy.syscalls, context_);
    return checked;
  }

  void CheckOutgoing(const syntax::Section& section, CheckedPolicy& checked) {
    if (const auto word = Choose(section.default_verdict, "outgoing.default", kOutgoingDefaults);
        word == 0U) {
      checked.outgoing_default = Verdict::kAllow;
    } else if (word == 2U) {
      NotBuilt(section.default_verdict->at, "outgoing.default \"redirect\"");
    }
    std::vector<AddressRule>& rules = checked.outgoing;
    rules.reserve(section.allow.size() + section.deny.size() + section.redirect.size() + 1);
    AddRules(section.allow, {"outgoing.allow", Verdict::kAllow}, RuleKind::kOutgoing, rules);
    AddRules(section.deny, {"outgoing.deny", Verdict::kDeny}, RuleKind::kOutgoing, rules);
    AddRules(section.redirect, {"outgoing.redirect", Verdict::kRedirect}, RuleKind::kOutgoing,
             rules);
    for (const Text& text : section.redirect) {
      NotBuilt(text.at, "a \"redirect\" rule");
    }
  }

  void CheckDns(const syntax::Policy& policy, CheckedPolicy& checked) {
    const auto word = Choose(policy.dns, "dns", kDnsWords);
    if (!word) {
      checked.dns.rule =
          checked.outgoing_default == Verdict::kAllow ? DnsRule::kFollow : DnsRule::kDeny;
      return;
    }
    checked.dns.rule = *word == 0 ? DnsRule::kAllow : DnsRule::kDeny;
    if (*word == 2) {
      NotBuilt(policy.dns->at, "dns \"proxy\"");
    }
  }

  void CheckIncoming(const syntax::Section& section, CheckedPolicy& checked) {
    checked.incoming_default = Choose(section.default_verdict, "incoming.default", kDefaults) == 0U
                                   ? Verdict::kAllow
                                   : Verdict::kDeny;
    AddRules(section.allow, {"incoming.allow", Verdict::kAllow}, RuleKind::kIncoming,
             checked.incoming);
    AddRules(section.deny, {"incoming.deny", Verdict::kDeny}, RuleKind::kIncoming,
             checked.incoming);
  }

  void AddRules(std::span<const Text> texts, ListKind list, RuleKind kind,
                std::vector<AddressRule>& rules) {
    for (const Text& text : texts) {
      auto parsed = ParseRule(text.value, kind);
      if (!parsed) {
        const auto offset = static_cast<uint32_t>(parsed.error().offset);
        Say({.file = text.at.file, .offset = text.at.offset + 1 + offset},
            fmt::format("in the rule \"{}\" of \"{}\": {}", Escape(text.value), list.name,
                        parsed.error().what));
        continue;
      }
      if (!IsUsable(text, *parsed, kind)) {
        continue;
      }
      rules.push_back({.verdict = list.verdict,
                       .host = parsed->host,
                       .ports = std::move(parsed->ports),
                       .names_dns = parsed->names_dns,
                       .transport = parsed->transport,
                       .from = parsed->from,
                       .text = fmt::format("{} {}", list.name, text.value),
                       .place = PlaceOf(text.at)});
    }
  }

  // What the grammar takes but the meaning does not; also settles what an incoming rule means.
  bool IsUsable(const Text& text, ParsedRule& rule, RuleKind kind) {
    for (const Word domain : {rule.domain, rule.from_domain}) {
      if (!domain.empty()) {
        NotBuilt(text.at, fmt::format("a rule for a name (\"{}\")", Escape(domain)));
        return false;
      }
    }
    const bool unspecified = rule.host.family != Family::kAny &&
                             rule.host.address != CanonicalDestination(rule.host.address) &&
                             rule.host.length == (rule.host.family == Family::kV4 ? 32 : 128);
    if (kind == RuleKind::kOutgoing) {
      if (unspecified) {
        Say(text.at, fmt::format("\"{}\": as a destination this address is loopback; write "
                                 "\"127.0.0.1\" or \"[::1]\", or \"*\" for every address",
                                 Escape(text.value)));
      }
      return !unspecified;
    }
    if (unspecified) {
      rule.host = Prefix();
    }
    if (!rule.from) {
      return true;
    }
    if (rule.transport == Transport::kUdp) {
      Say(text.at, fmt::format("\"{}\": \"from\" cannot be enforced for udp, which has no "
                               "connections to accept; leave out \"from\" or write \"/tcp\"",
                               Escape(text.value)));
      return false;
    }
    rule.transport = Transport::kTcp;
    return true;
  }

  void CheckUnix(const syntax::Section& section, CheckedPolicy& checked) {
    checked.unix_default = Choose(section.default_verdict, "unix.default", kDefaults) == 1U
                               ? Verdict::kDeny
                               : Verdict::kAllow;
    if (section.allow.size() + section.deny.size() > kMaxUnixRules) {
      Say(section.at, fmt::format("\"unix\" has more than {} rules", kMaxUnixRules));
      return;
    }
    AddUnixRules(section.allow, {"unix.allow", Verdict::kAllow}, checked.unix_rules);
    AddUnixRules(section.deny, {"unix.deny", Verdict::kDeny}, checked.unix_rules);
  }

  void AddUnixRules(std::span<const Text> texts, ListKind list, std::vector<UnixRule>& rules) {
    for (const Text& text : texts) {
      const Word pattern = text.value;
      const bool is_path = pattern.starts_with('/');
      if (!is_path && !pattern.starts_with('@')) {
        Say(text.at, fmt::format("\"{}\" is neither an absolute path nor an \"@abstract\" name",
                                 Escape(pattern)));
      } else if (pattern.size() > kMaxPatternLength) {
        Say(text.at, fmt::format("longer than {} bytes", kMaxPatternLength));
      } else if (is_path && IsUnclean(pattern)) {
        Say(text.at, fmt::format("\"{}\": a path without \"//\", \"/./\", \"/../\" or a slash at "
                                 "its end; links are followed before it is compared",
                                 Escape(pattern)));
      } else {
        rules.push_back({.verdict = list.verdict,
                         .pattern = std::string(pattern),
                         .text = fmt::format("{} {}", list.name, pattern),
                         .place = PlaceOf(text.at)});
      }
    }
  }

  static bool IsUnclean(Word path) {
    const auto has = [&](Word part) { return path.find(part) != Word::npos; };
    return has("//") || has("/./") || has("/../") || path.ends_with('/') || path.ends_with("/.") ||
           path.ends_with("/..");
  }

  // The proxy of a policy is reachable without a rule of the operator's.
  void AddProxy(const Text& reference, CheckedPolicy& checked) {
    const auto found = proxies_.find(reference.value);
    if (found == proxies_.end()) {
      Say(reference.at, fmt::format("there is no proxy \"{}\"{}", Escape(reference.value),
                                    DidYouMean(reference.value, proxy_names_)));
      return;
    }
    for (const ProxyUrl& url : found->second.urls) {
      if (url.endpoint) {
        AddProxyEndpoint(reference, found->second, *url.endpoint, checked);
      } else if (!url.unix_path.empty()) {
        checked.unix_rules.push_back({.verdict = Verdict::kAllow,
                                      .pattern = url.unix_path,
                                      .text = "proxy",
                                      .place = PlaceOf(found->second.at)});
      } else {
        NotBuilt(reference.at,
                 fmt::format("a proxy whose host is a name (\"{}\")", Escape(url.host)));
      }
    }
  }

  void AddProxyEndpoint(const Text& reference, const Proxy& proxy, const Endpoint& endpoint,
                        CheckedPolicy& checked) {
    const bool v4 = endpoint.ip.IsV4();
    AddressRule rule{.verdict = Verdict::kAllow,
                     .host = {.family = v4 ? Family::kV4 : Family::kV6,
                              .length = static_cast<uint8_t>(v4 ? 32 : 128),
                              .address = endpoint.ip},
                     .ports = {{.first = endpoint.port, .last = endpoint.port}},
                     .names_dns = endpoint.port == kDnsPort,
                     .transport = Transport::kTcp,
                     .from = {},
                     .text = "proxy",
                     .place = PlaceOf(proxy.at)};
    for (const AddressRule& other : checked.outgoing) {
      if (other.verdict != Verdict::kAllow && other.host == rule.host &&
          other.ports == rule.ports && other.transport != Transport::kUdp) {
        Say(reference.at,
            fmt::format("\"{}\" (line {}) forbids the policy's own proxy \"{}\"", other.text,
                        other.place.position.line, Escape(reference.value)));
      }
    }
    checked.outgoing.push_back(std::move(rule));
  }

  void CheckHandshake(const syntax::Policy& policy) {
    if (!policy.handshake) {
      return;
    }
    const syntax::Handshake& handshake = *policy.handshake;
    (void)Choose(handshake.require, "require", kHandshakes);
    (void)Choose(handshake.auth, "auth", kAuths);
    if (handshake.isolation) {
      CheckRegex(*handshake.isolation);
    }
    if (!policy.proxy) {
      Say(handshake.at, "\"handshake\" needs a \"proxy\" in the same policy");
    }
    NotBuilt(handshake.at, "\"handshake\"");
  }

  void CheckRegex(const Text& text) {
    if (text.value.size() > kMaxRegex) {
      Say(text.at, fmt::format("a regular expression of more than {} bytes", kMaxRegex));
      return;
    }
    try {
      static_cast<void>(std::regex(text.value.begin(), text.value.end()));
    } catch (const std::regex_error& error) {
      Say(text.at,
          fmt::format("\"{}\" is not a regular expression (ECMAScript)", Escape(text.value)));
    }
  }

  CheckContext context_;
  std::map<Word, Location> policies_;
  std::map<Word, Location> proxy_places_;
  std::map<Word, Proxy> proxies_;
  std::vector<Word> policy_names_;
  std::vector<Word> proxy_names_;
};

}  // namespace

uint32_t AddressRule::PortCount() const {
  if (ports.empty()) {
    return 65536;
  }
  uint32_t count = 0;
  for (const PortRange& range : ports) {
    count += static_cast<uint32_t>(range.last - range.first) + 1;
  }
  return count;
}

bool AddressRule::Covers(uint16_t port, Transport with) const {
  if (transport && *transport != with) {
    return false;
  }
  if (ports.empty()) {
    return true;
  }
  return with != Transport::kOther &&
         std::any_of(ports.begin(), ports.end(), [&](const PortRange& range) {
           return range.first <= port && port <= range.last;
         });
}

std::span<const Words> AllWords() { return kAllWords; }

CheckedSet Check(std::span<const syntax::File> files, const Sources& sources,
                 Diagnostics& diagnostics) {
  return Checker(sources, diagnostics).Run(files);
}

}  // namespace oakum::policy
