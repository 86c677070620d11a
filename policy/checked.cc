#include "policy/checked.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "base/error.h"
#include "policy/check_container.h"
#include "policy/check_context.h"
#include "policy/check_dns.h"
#include "policy/check_proxy.h"
#include "policy/check_rules.h"
#include "policy/check_syscalls.h"

namespace oakum::policy {

namespace {

using Word = std::string_view;
using syntax::Text;

constexpr std::array kModes = {Word("audit"), Word("enforce"), Word("kill")};
constexpr std::array kLogs = {Word("leaks"), Word("all")};
constexpr std::array kOutgoingDefaults = {Word("allow"), Word("deny"), Word("redirect")};
constexpr std::array kDefaults = {Word("allow"), Word("deny")};
constexpr std::array kOnLeak = {Word("stack"), Word("core")};

constexpr std::array kAllWords = {
    Words{"mode", kModes},
    Words{"log", kLogs},
    Words{"outgoing_default", kOutgoingDefaults},
    Words{"default", kDefaults},
    Words{"dns", kDnsWords},
    Words{"isolate", kIsolations},
    Words{"credentials", kCredentialFormats},
    Words{"from", kProxyFroms},
    Words{"require", kHandshakes},
    Words{"auth", kAuths},
    Words{"on_leak", kOnLeak},
    Words{"base", kSyscallBases},
};

// One list of unix rules and the verdict that it gives.
struct ListKind {
  Word name;
  Verdict verdict;
};

class Checker {
 public:
  Checker(const Sources& sources, Diagnostics& diagnostics) : context_(sources, diagnostics) {}

  CheckedSet Run(std::span<const syntax::File> files) {
    auto proxies = std::make_shared<Proxies>();
    for (const syntax::File& file : files) {
      for (const syntax::Proxy& proxy : file.proxies) {
        Claim(proxy_places_, proxy.name, "proxy");
        proxies->emplace(proxy.name.value, CheckProxy(proxy, context_));
      }
      for (const syntax::Policy& policy : file.policies) {
        Claim(policies_, policy.name, "policy");
      }
    }
    policy_names_ = NamesOf(policies_);
    proxies_ = std::move(proxies);
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
    checked.proxies = proxies_;
    if (policy.proxy) {
      checked.proxy = FindProxy(*policy.proxy);
    }
    if (policy.outgoing) {
      CheckOutgoing(*policy.outgoing, policy, checked);
    }
    checked.dns = CheckDns(policy, checked.outgoing_default, checked.proxy, context_);
    CheckNamesAreKnown(policy, checked);
    if (policy.incoming) {
      CheckIncoming(*policy.incoming, checked);
    }
    if (policy.unix_sockets) {
      CheckUnix(*policy.unix_sockets, checked);
    }
    checked.handshake = CheckHandshake(policy, checked.proxy, context_);
    if (checked.proxy != nullptr) {
      AllowProxy(*policy.proxy, checked);
    }
    for (const Text& text : policy.on_leak) {
      if (Choose(text, "on_leak", kOnLeak)) {
        NotBuilt(text.at, "\"on_leak\"");
      }
    }
    checked.syscalls = CheckSyscalls(policy.syscalls, context_);
    return checked;
  }

  // Null, after having said so, when there is none of that name.
  const Proxy* FindProxy(const Text& reference) {
    const auto found = proxies_->find(reference.value);
    if (found == proxies_->end()) {
      Say(reference.at, fmt::format("there is no proxy \"{}\"{}", Escape(reference.value),
                                    SuggestProxy(reference.value, *proxies_)));
      return nullptr;
    }
    return &found->second;
  }

  void CheckOutgoing(const syntax::Section& section, const syntax::Policy& policy,
                     CheckedPolicy& checked) {
    static constexpr std::array kMeanings = {Verdict::kAllow, Verdict::kDeny, Verdict::kRedirect};
    static_assert(kMeanings.size() == kOutgoingDefaults.size());
    if (const auto word = Choose(section.default_verdict, "outgoing.default", kOutgoingDefaults)) {
      checked.outgoing_default = kMeanings[*word];
    }
    if (checked.outgoing_default == Verdict::kRedirect && !policy.proxy) {
      Say(section.default_verdict->at,
          "outgoing.default \"redirect\" needs a \"proxy\" in the same policy");
    }
    CheckOutgoingRules(section, {.all = *proxies_, .own = checked.proxy}, checked, context_);
  }

  // A rule for a name holds for addresses that the container was told for it: somebody has to see
  // the answers.
  void CheckNamesAreKnown(const syntax::Policy& policy, const CheckedPolicy& checked) {
    if (checked.outgoing_names.empty() || checked.dns.rule == DnsRule::kAllow ||
        checked.dns.rule == DnsRule::kProxy) {
      return;
    }
    for (const std::vector<Text>* list :
         {&policy.outgoing->allow, &policy.outgoing->deny, &policy.outgoing->redirect}) {
      for (const Text& text : *list) {
        const auto names = [&](const AddressRule& rule) {
          const Place place = PlaceOf(text.at);
          return rule.place.file == place.file && rule.place.position == place.position;
        };
        if (std::ranges::any_of(checked.outgoing_names, names)) {
          Say(text.at,
              fmt::format("\"{}\" is a rule for a name: it needs to see what the container "
                          "is told for it; write \"dns\": \"allow\", or \"proxy\"",
                          Escape(text.value)));
        }
      }
    }
  }

  void CheckIncoming(const syntax::Section& section, CheckedPolicy& checked) {
    checked.incoming_default = Choose(section.default_verdict, "incoming.default", kDefaults) == 0U
                                   ? Verdict::kAllow
                                   : Verdict::kDeny;
    CheckIncomingRules(section, checked, context_);
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

  // The proxy of a policy is reachable without a rule of the operator's, where it has an address.
  void AllowProxy(const Text& reference, CheckedPolicy& checked) {
    const Place place = PlaceOf(proxy_places_.at(reference.value));
    for (const ProxyUrl& url : checked.proxy->urls) {
      if (url.endpoint) {
        AllowEndpoint(reference, *url.endpoint, place, checked);
      } else if (!url.unix_path.empty()) {
        checked.unix_rules.push_back({.verdict = Verdict::kAllow,
                                      .pattern = url.unix_path,
                                      .text = "proxy",
                                      .place = place});
      }
    }
  }

  void AllowEndpoint(const Text& reference, const Endpoint& endpoint, const Place& place,
                     CheckedPolicy& checked) {
    const bool v4 = endpoint.ip.IsV4();
    AddressRule rule{.verdict = Verdict::kAllow,
                     .host = {.family = v4 ? Family::kV4 : Family::kV6,
                              .length = static_cast<uint8_t>(v4 ? 32 : 128),
                              .address = endpoint.ip},
                     .domain = {},
                     .ports = {{.first = endpoint.port, .last = endpoint.port}},
                     .names_dns = endpoint.port == kDnsPort,
                     .transport = Transport::kTcp,
                     .from = {},
                     .text = "proxy",
                     .place = place,
                     .carry = checked.handshake ? Carry::kChecked : Carry::kDirect,
                     .proxy = checked.handshake ? checked.proxy : nullptr};
    for (const AddressRule& other : checked.outgoing) {
      if (other.verdict != Verdict::kAllow && other.host == rule.host &&
          other.ports == rule.ports && other.transport != Transport::kUdp) {
        Say(reference.at, fmt::format("\"{}\" (line {}) {} the policy's own proxy \"{}\"",
                                      other.text, other.place.position.line,
                                      other.verdict == Verdict::kDeny ? "forbids" : "redirects",
                                      Escape(reference.value)));
      } else if (checked.handshake && other.text != rule.text && other.host == rule.host &&
                 other.ports == rule.ports && other.transport != Transport::kUdp) {
        Say(reference.at,
            fmt::format("\"{}\" (line {}) allows the policy's own proxy \"{}\" "
                        "without its \"handshake\"; leave the rule out",
                        other.text, other.place.position.line, Escape(reference.value)));
      }
    }
    checked.outgoing.push_back(std::move(rule));
  }

  CheckContext context_;
  std::map<Word, Location> policies_;
  std::map<Word, Location> proxy_places_;
  std::shared_ptr<const Proxies> proxies_;
  std::vector<Word> policy_names_;
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
