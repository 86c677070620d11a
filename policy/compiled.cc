#include "policy/compiled.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "policy/glob.h"

namespace oakum::policy {

namespace {

std::string_view Word(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllow:
      return "allow";
    case Verdict::kDeny:
      return "deny";
    case Verdict::kRedirect:
      return "redirect";
  }
  return "deny";
}

template <typename Keep>
std::vector<uint32_t> Select(const std::vector<AddressRule>& rules, Keep keep) {
  std::vector<uint32_t> ids;
  for (uint32_t id = 0; id < rules.size(); ++id) {
    if (keep(rules[id])) {
      ids.push_back(id);
    }
  }
  return ids;
}

template <typename Keep>
CompiledPolicy::Outgoing IndexOutgoing(CompiledPolicy& compiled, Keep keep) {
  const std::vector<AddressRule>& rules = compiled.source.outgoing;
  const std::vector<AddressRule>& names = compiled.source.outgoing_names;
  const auto everywhere = [&](const AddressRule& rule) {
    return keep(rule) && rule.host.length == 0;
  };
  return {.addresses = compiled.index.Add(rules, Select(rules, keep)),
          .everywhere = compiled.index.Add(rules, Select(rules, everywhere)),
          .names = NameIndex::Create(names, Select(names, keep), compiled.index)};
}

void CompileOutgoing(CompiledPolicy& compiled) {
  compiled.outgoing = IndexOutgoing(compiled, [](const AddressRule&) { return true; });
  if (ClosesDns(compiled.source)) {
    compiled.outgoing_dns = IndexOutgoing(compiled, CountsForDns);
  }
  const bool by_default = compiled.source.outgoing_default == Verdict::kRedirect;
  compiled.redirects = by_default;
  compiled.redirects_datagrams = by_default;
  for (const auto* rules : {&compiled.source.outgoing, &compiled.source.outgoing_names}) {
    for (const AddressRule& rule : *rules) {
      const bool redirects = rule.verdict == Verdict::kRedirect;
      compiled.redirects |= redirects;
      compiled.redirects_datagrams |= redirects && rule.transport != Transport::kTcp;
    }
  }
}

void CompileIncoming(CompiledPolicy& compiled) {
  const std::vector<AddressRule>& rules = compiled.source.incoming;
  const auto is_deny = [](const AddressRule& rule) { return rule.verdict == Verdict::kDeny; };
  compiled.listening = compiled.index.Add(
      rules, Select(rules, [&](const AddressRule& rule) { return !is_deny(rule) || !rule.from; }));
  for (uint32_t id = 0; id < rules.size(); ++id) {
    const AddressRule& rule = rules[id];
    if (is_deny(rule) && !rule.from && rule.transport != Transport::kTcp &&
        rule.host.family != Family::kAny) {
      AddressRule& wide = compiled.udp_wildcard_rules.emplace_back(rule);
      // :: receives IPv4 as well (ipv6(7), IPV6_V6ONLY); 0.0.0.0 never receives IPv6.
      wide.host =
          rule.host.family == Family::kV4 ? Prefix() : Prefix{.family = Family::kV6, .address = {}};
      compiled.udp_wildcard_ids.push_back(id);
    }
  }
  compiled.udp_wildcard = compiled.index.Add(
      compiled.udp_wildcard_rules,
      Select(compiled.udp_wildcard_rules, [](const AddressRule&) { return true; }));
  compiled.peers = PeerIndex::Create(rules, compiled.index);

  const bool default_deny = compiled.source.incoming_default == Verdict::kDeny;
  compiled.guards_incoming = default_deny || std::any_of(rules.begin(), rules.end(), is_deny);
  compiled.guards_peers =
      default_deny || (compiled.guards_incoming &&
                       std::any_of(rules.begin(), rules.end(), [](const AddressRule& rule) {
                         return rule.from || rule.host.family != Family::kAny;
                       }));
}

void CompileUnix(CompiledPolicy& compiled) {
  const std::vector<UnixRule>& rules = compiled.source.unix_rules;
  compiled.unix_order.resize(rules.size());
  std::iota(compiled.unix_order.begin(), compiled.unix_order.end(), 0);
  std::stable_sort(compiled.unix_order.begin(), compiled.unix_order.end(),
                   [&](uint32_t a, uint32_t b) { return BeatsUnix(rules[a], rules[b]); });
  compiled.guards_unix = compiled.source.unix_default == Verdict::kDeny ||
                         std::any_of(rules.begin(), rules.end(), [](const UnixRule& rule) {
                           return rule.verdict == Verdict::kDeny;
                         });
  for (const UnixRule& rule : rules) {
    if (rule.verdict != Verdict::kDeny || !rule.pattern.starts_with('/')) {
      continue;
    }
    if (LiteralPrefix(rule.pattern) == rule.pattern.size()) {
      compiled.denied_unix_paths.push_back(rule.pattern);
    } else {
      compiled.denies_unix_patterns = true;
    }
  }
}

}  // namespace

bool ClosesDns(const CheckedPolicy& policy) {
  return policy.dns.rule == DnsRule::kDeny || policy.dns.rule == DnsRule::kProxy;
}

bool CountsForDns(const AddressRule& rule) {
  return rule.verdict != Verdict::kDeny
             ? rule.names_dns
             : rule.ports.empty() || rule.Covers(kDnsPort, Transport::kTcp) ||
                   rule.Covers(kDnsPort, Transport::kUdp);
}

bool IsDockerResolver(const IpAddress& ip) { return ip == IpAddress::FromV4({127, 0, 0, 11}); }

bool IsSyntheticAddress(const IpAddress& ip) {
  static constexpr std::array<uint8_t, 8> kV6 = {0xfd, 0x6f, 0x61, 0x6b, 0x75, 0x6d, 0, 0};
  const std::array<uint8_t, 16>& bytes = ip.bytes();
  return ip.IsV4() ? bytes[12] == 198 && (bytes[13] & 0xfe) == 18
                   : std::equal(kV6.begin(), kV6.end(), bytes.begin());
}

bool IsSynthetic(const CheckedPolicy& policy, const IpAddress& ip) {
  // Also with kTor, for names below "onion".
  return policy.dns.rule == DnsRule::kProxy && policy.dns.resolve != Resolve::kServer &&
         IsSyntheticAddress(ip);
}

bool BeatsUnix(const UnixRule& a, const UnixRule& b) {
  const size_t literal_a = LiteralPrefix(a.pattern);
  const size_t literal_b = LiteralPrefix(b.pattern);
  if (literal_a != literal_b) {
    return literal_a > literal_b;
  }
  const bool exact_a = literal_a == a.pattern.size();
  const bool exact_b = literal_b == b.pattern.size();
  if (exact_a != exact_b) {
    return exact_a;
  }
  if (a.pattern.size() != b.pattern.size()) {
    return a.pattern.size() > b.pattern.size();
  }
  return a.verdict == Verdict::kDeny && b.verdict != Verdict::kDeny;
}

std::shared_ptr<const CompiledPolicy> Compile(
    CheckedPolicy checked, std::shared_ptr<const std::vector<std::string>> files) {
  auto compiled = std::make_shared<CompiledPolicy>();
  compiled->source = std::move(checked);
  compiled->files = std::move(files);
  CompileOutgoing(*compiled);
  CompileIncoming(*compiled);
  CompileUnix(*compiled);
  compiled->outgoing_default_text =
      fmt::format("outgoing.default {}", Word(compiled->source.outgoing_default));
  compiled->incoming_default_text =
      fmt::format("incoming.default {}", Word(compiled->source.incoming_default));
  compiled->unix_default_text = fmt::format("unix.default {}", Word(compiled->source.unix_default));
  return compiled;
}

}  // namespace oakum::policy
