#include "policy/check_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "policy/rule_text.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

using syntax::Text;

// One list of rules and the verdict that it gives.
struct ListKind {
  std::string_view name;
  Verdict verdict;
  RuleKind kind;
};

class RuleChecker {
 public:
  // `proxies` is null where no rule can redirect.
  RuleChecker(const ProxyChoice* proxies, CheckContext& context)
      : proxies_(proxies), context_(context) {}

  // Adds to `rules`, and to `names` what names a domain.
  void Add(std::span<const Text> texts, const ListKind& list, std::vector<AddressRule>& rules,
           std::vector<AddressRule>& names) {
    for (const Text& text : texts) {
      auto parsed = ParseRule(text.value, list.kind);
      if (!parsed) {
        const auto offset = static_cast<uint32_t>(parsed.error().offset);
        context_.Say({.file = text.at.file, .offset = text.at.offset + 1 + offset},
                     fmt::format("in the rule \"{}\" of \"{}\": {}", Escape(text.value), list.name,
                                 parsed.error().what));
        continue;
      }
      if (list.kind == RuleKind::kIncoming ? !IsUsableIncoming(text, *parsed)
                                           : !IsUsableOutgoing(text, *parsed)) {
        continue;
      }
      const Proxy* proxy = nullptr;
      if (list.verdict == Verdict::kRedirect) {
        proxy = FindProxy(text, *parsed);
        if (proxy == nullptr) {
          continue;
        }
      }
      const bool named = !parsed->domain.empty();
      (named ? names : rules)
          .push_back({.verdict = list.verdict,
                      .host = parsed->host,
                      .domain = NormalName(parsed->domain),
                      .ports = std::move(parsed->ports),
                      .names_dns = parsed->names_dns,
                      .transport = parsed->transport,
                      .from = parsed->from,
                      .text = fmt::format("{} {}", list.name, text.value),
                      .place = context_.PlaceOf(text.at),
                      .carry = proxy != nullptr ? Carry::kProxy : Carry::kDirect,
                      .proxy = proxy});
    }
  }

 private:
  // What the grammar takes but the meaning does not.
  bool IsUsableOutgoing(const Text& text, const ParsedRule& rule) {
    const bool unspecified = IsUnspecified(rule.host);
    if (unspecified) {
      context_.Say(text.at, fmt::format("\"{}\": as a destination this address is loopback; write "
                                        "\"127.0.0.1\" or \"[::1]\", or \"*\" for every address",
                                        Escape(text.value)));
    }
    return !unspecified;
  }

  // The same; also settles what an incoming rule means.
  bool IsUsableIncoming(const Text& text, ParsedRule& rule) {
    for (const std::string_view domain : {rule.domain, rule.from_domain}) {
      if (!domain.empty()) {
        context_.Say(text.at, fmt::format("\"{}\": incoming rules are for addresses, and \"{}\" is "
                                          "a name",
                                          Escape(text.value), Escape(domain)));
        return false;
      }
    }
    if (IsUnspecified(rule.host)) {
      rule.host = Prefix();
    }
    if (!rule.from) {
      return true;
    }
    if (rule.transport == Transport::kUdp) {
      context_.Say(text.at, fmt::format("\"{}\": \"from\" cannot be enforced for udp, which has no "
                                        "connections to accept; leave out \"from\" or write "
                                        "\"/tcp\"",
                                        Escape(text.value)));
      return false;
    }
    rule.transport = Transport::kTcp;
    return true;
  }

  static bool IsUnspecified(const Prefix& host) {
    return host.IsSingle() && host.address != CanonicalDestination(host.address);
  }

  const Proxy* FindProxy(const Text& text, const ParsedRule& rule) {
    if (rule.via.empty()) {
      if (proxies_->own == nullptr) {
        context_.Say(text.at, fmt::format("\"{}\" goes through no proxy; add \"proxy\" to the "
                                          "policy, or \" via NAME\" to the rule",
                                          Escape(text.value)));
      }
      return proxies_->own;
    }
    const auto found = proxies_->all.find(rule.via);
    if (found == proxies_->all.end()) {
      context_.Say(text.at, fmt::format("there is no proxy \"{}\"{}", Escape(rule.via),
                                        SuggestProxy(rule.via, proxies_->all)));
      return nullptr;
    }
    return &found->second;
  }

  const ProxyChoice* proxies_;
  CheckContext& context_;
};

}  // namespace

void CheckOutgoingRules(const syntax::Section& section, const ProxyChoice& proxies,
                        CheckedPolicy& checked, CheckContext& context) {
  RuleChecker checker(&proxies, context);
  checked.outgoing.reserve(section.allow.size() + section.deny.size() + section.redirect.size() +
                           1);
  const auto add = [&](std::span<const Text> texts, const ListKind& list) {
    checker.Add(texts, list, checked.outgoing, checked.outgoing_names);
  };
  add(section.allow, {"outgoing.allow", Verdict::kAllow, RuleKind::kOutgoing});
  add(section.deny, {"outgoing.deny", Verdict::kDeny, RuleKind::kOutgoing});
  add(section.redirect, {"outgoing.redirect", Verdict::kRedirect, RuleKind::kRedirect});
}

void CheckIncomingRules(const syntax::Section& section, CheckedPolicy& checked,
                        CheckContext& context) {
  RuleChecker checker(nullptr, context);
  const auto add = [&](std::span<const Text> texts, const ListKind& list) {
    checker.Add(texts, list, checked.incoming, checked.incoming);  // none is for a name
  };
  add(section.allow, {"incoming.allow", Verdict::kAllow, RuleKind::kIncoming});
  add(section.deny, {"incoming.deny", Verdict::kDeny, RuleKind::kIncoming});
}

std::string SuggestProxy(std::string_view name, const Proxies& proxies) {
  std::vector<std::string_view> names;
  names.reserve(proxies.size());
  for (const auto& [known, proxy] : proxies) {
    names.push_back(known);
  }
  return DidYouMean(name, names);
}

}  // namespace oakum::policy
