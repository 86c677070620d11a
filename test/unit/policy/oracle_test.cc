// Random policies: the compiled form answers as one that looks at every rule, and as an oracle
// written here from docs/policy.md alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "policy/compiled.h"
#include "policy/explain.h"
#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::MustParse;

using Random = std::mt19937_64;

template <typename T>
const T& Pick(Random& random, const std::vector<T>& from) {
  return from[random() % from.size()];
}

// Few distinct bytes, so that prefixes nest and addresses hit them.
IpAddress RandomAddress(Random& random) {
  // Docker's resolver, and addresses that stand for names or lie beside those.
  static const std::vector<std::string> kSpecial = {
      "127.0.0.11",        "198.18.0.1",         "198.19.255.255",     "198.20.0.0",
      "fd6f:616b:756d::1", "fd6f:616b:756d:1::", "64:ff9b::198.18.0.1"};
  if (random() % 6 == 0) {
    return *IpAddress::Parse(Pick(random, kSpecial));
  }
  static const std::vector<uint8_t> kBytes = {0, 1, 2, 10, 127, 128, 255};
  if (random() % 2 == 0) {
    return IpAddress::FromV4(
        {Pick(random, kBytes), Pick(random, kBytes), Pick(random, kBytes), Pick(random, kBytes)});
  }
  static const std::vector<std::string> kStarts = {
      "fd00::", "64:ff9b::", "2002::", "2001:db8::", "::"};
  std::array<uint8_t, 16> bytes = IpAddress::Parse(Pick(random, kStarts))->bytes();
  for (const size_t i : {3, 4, 5, 9, 12, 13, 14, 15}) {
    if (random() % 3 == 0) {
      bytes[i] = Pick(random, kBytes);
    }
  }
  return IpAddress(bytes);
}

std::string RandomHost(Random& random) {
  if (random() % 8 == 0) {
    return "*";
  }
  const IpAddress address = RandomAddress(random);
  const bool v4 = address.IsV4();
  static const std::vector<int> kLengths = {0, 1, 7, 8, 9, 15, 16, 24, 31, 32};
  const int length = Pick(random, kLengths) * (v4 ? 1 : 4);
  std::array<uint8_t, 16> bytes = address.bytes();
  for (int bit = length + (v4 ? 96 : 0); bit < 128; ++bit) {
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] & ~(0x80 >> (bit % 8)));
  }
  if (length == 128 && IpAddress(bytes) == IpAddress()) {
    return "[::1]";
  }
  if (v4) {
    const IpAddress masked(bytes);
    return length == 32 && masked == IpAddress::FromV4({0, 0, 0, 0})
               ? "127.0.0.1"
               : masked.ToString() + "/" + std::to_string(length);
  }
  const IpAddress masked(bytes);
  return "[" + masked.ToString() + "/" + std::to_string(length) + "]";
}

std::string RandomRule(Random& random, bool incoming) {
  static const std::vector<std::string> kPorts = {
      "", "", "", ":53", ":80", ":80,443", ":1-100", ":50-60", ":53,443", ":1-65535", ":400-500"};
  static const std::vector<std::string> kProtocols = {"", "", "/tcp", "/udp"};
  std::string rule = RandomHost(random) + Pick(random, kPorts);
  const std::string protocol = Pick(random, kProtocols);
  rule += protocol;
  if (incoming && protocol != "/udp" && random() % 2 == 0) {
    rule += " from " + RandomHost(random);
  }
  return rule;
}

const std::vector<std::string>& Domains() {
  static const std::vector<std::string> domains = {"a",   "b.a",   "c.b.a",   "x.c.b.a",   "y.a",
                                                   "*.a", "*.b.a", "*.c.b.a", "*.x.c.b.a", "*.y.a"};
  return domains;
}

std::string RandomName(Random& random) {
  static const std::vector<std::string> kPorts = {"", "", ":53", ":80", ":80,443", ":1-100"};
  static const std::vector<std::string> kProtocols = {"", "", "/tcp", "/udp"};
  return Pick(random, Domains()) + Pick(random, kPorts) + Pick(random, kProtocols);
}

enum class ListOf : uint8_t { kIncoming, kAddresses, kNames };

std::string RandomList(Random& random, ListOf what, bool redirect = false) {
  std::string list = "[";
  const size_t count = random() % 12;
  for (size_t i = 0; i < count; ++i) {
    const bool name = what == ListOf::kNames && random() % 2 == 0;
    list += i == 0 ? "\"" : ", \"";
    list += name ? RandomName(random) : RandomRule(random, what == ListOf::kIncoming);
    list += redirect && random() % 2 == 0 ? " via corp\"" : "\"";
  }
  return list + "]";
}

std::string RandomPolicy(Random& random) {
  static const std::vector<std::string> kOutgoing = {"allow", "deny", "redirect"};
  static const std::vector<std::string> kDefaults = {"allow", "deny"};
  static const std::vector<std::string> kDns = {"",
                                                R"("dns": "deny",)",
                                                R"("dns": "allow",)",
                                                R"("dns": "proxy",)",
                                                R"("dns": "proxy", "resolve": "tor",)",
                                                R"("dns": "proxy", "resolve": "tcp://a.b:53",)"};
  const std::string otherwise = Pick(random, kOutgoing);
  const std::string dns = Pick(random, kDns);
  // Names need somebody who sees the answers.
  const ListOf what = dns.find("allow") != std::string::npos ||
                              dns.find("proxy") != std::string::npos ||
                              (dns.empty() && otherwise == "redirect")
                          ? ListOf::kNames
                          : ListOf::kAddresses;
  return R"({"version": 1, "proxies": {"tor": {"url": "socks5://10.88.0.1:9050"},
             "corp": {"url": "socks5://10.88.0.2:9050"}},
             "policies": {"p": {"mode": "enforce", "proxy": "tor", )" +
         dns + R"("outgoing": {"default": ")" + otherwise + R"(", "allow": )" +
         RandomList(random, what) + R"(, "deny": )" + RandomList(random, what) +
         R"(, "redirect": )" + RandomList(random, what, true) + R"(}, "incoming": {"default": ")" +
         Pick(random, kDefaults) + R"(", "allow": )" + RandomList(random, ListOf::kIncoming) +
         R"(, "deny": )" + RandomList(random, ListOf::kIncoming) + "}}}}";
}

std::vector<std::string> RandomNames(Random& random) {
  static const std::vector<std::string> kNames = {"a",   "b.a",   "c.b.a", "x.c.b.a", "z.x.c.b.a",
                                                  "y.a", "z.y.a", "ya",    "b"};
  std::vector<std::string> names;
  for (size_t count = random() % 3; count > 0; --count) {
    names.push_back(Pick(random, kNames));
  }
  return names;
}

InetRequest RandomRequest(Random& random) {
  static const std::vector<Operation> kOperations = {Operation::kConnect, Operation::kSend,
                                                     Operation::kBind, Operation::kListen,
                                                     Operation::kAccept};
  static const std::vector<Transport> kTransports = {Transport::kTcp, Transport::kUdp,
                                                     Transport::kOther};
  static const std::vector<uint16_t> kPorts = {0, 1, 53, 55, 80, 100, 443, 8080, 65535};
  return {.operation = Pick(random, kOperations),
          .transport = Pick(random, kTransports),
          .remote = {.ip = RandomAddress(random), .port = Pick(random, kPorts)},
          .local = {.ip = RandomAddress(random), .port = Pick(random, kPorts)}};
}

// Everything below is written from docs/policy.md, with nothing of the compiled form.

bool CoversAddress(const Prefix& prefix, const IpAddress& ip) {
  if (prefix.family == Family::kAny) {
    return true;
  }
  if ((prefix.family == Family::kV4) != ip.IsV4()) {
    return false;
  }
  const int start = ip.IsV4() ? 96 : 0;
  for (int bit = start; bit < start + prefix.length; ++bit) {
    const int mask = 0x80 >> (bit % 8);
    if (((prefix.address.bytes()[bit / 8] ^ ip.bytes()[bit / 8]) & mask) != 0) {
      return false;
    }
  }
  return true;
}

int Strictness(Verdict verdict) {
  return verdict == Verdict::kDeny ? 2 : verdict == Verdict::kRedirect ? 1 : 0;
}

// The most specific of the rules, the earlier of equal ones, or null. `from_first`: rules for
// longer peer prefixes come first.
const AddressRule* Strongest(const std::vector<const AddressRule*>& rules, bool from_first) {
  const auto key = [&](const AddressRule& rule) {
    int ports = 65536;
    if (!rule.ports.empty()) {
      ports = 0;
      for (const PortRange& range : rule.ports) {
        ports += range.last - range.first + 1;
      }
    }
    // A name before its wildcards, and of those the longest.
    const bool wildcard = rule.domain.starts_with("*.");
    const int near = rule.domain.empty() ? rule.host.length
                     : wildcard          ? static_cast<int>(std::ranges::count(rule.domain, '.'))
                                         : 1000;
    return std::tuple(from_first && rule.from ? rule.from->length : 0, near, -ports,
                      rule.transport ? 1 : 0, Strictness(rule.verdict));
  };
  const auto best = std::max_element(
      rules.begin(), rules.end(), [&](const auto* a, const auto* b) { return key(*a) < key(*b); });
  return best == rules.end() ? nullptr : *best;
}

Verdict VerdictOf(const AddressRule* rule, Verdict otherwise) {
  return rule != nullptr ? rule->verdict : otherwise;
}

bool CoversDomain(std::string domain, const std::string& name) {
  if (!domain.starts_with("*.")) {
    return domain == name;
  }
  domain.erase(0, 1);
  return name.size() > domain.size() && name.substr(name.size() - domain.size()) == domain;
}

bool CoversPort(const AddressRule& rule, uint16_t port, Transport transport) {
  if (rule.transport && *rule.transport != transport) {
    return false;
  }
  if (rule.ports.empty()) {
    return true;
  }
  return transport != Transport::kOther &&
         std::any_of(rule.ports.begin(), rule.ports.end(), [&](const PortRange& range) {
           return range.first <= port && port <= range.last;
         });
}

struct Answer {
  Verdict verdict = Verdict::kDeny;
  Carry carry = Carry::kDirect;
  std::string proxy = {};

  bool operator==(const Answer&) const = default;
};

Answer AnswerOf(Verdict verdict, Carry carry, const Proxy* proxy) {
  return {.verdict = verdict, .carry = carry, .proxy = proxy != nullptr ? proxy->name : ""};
}

const AddressRule* OracleRule(const CheckedPolicy& policy, const InetRequest& request,
                              const IpAddress& ip, bool closed, bool synthetic, bool docker) {
  const auto counts = [&](const AddressRule& rule) {
    return CoversPort(rule, request.remote.port, request.transport) &&
           !(closed && rule.verdict != Verdict::kDeny && !rule.names_dns);
  };
  std::vector<const AddressRule*> single;
  std::vector<const AddressRule*> prefixes;
  std::vector<const AddressRule*> names;
  for (const AddressRule& rule : policy.outgoing) {
    if (CoversAddress(rule.host, ip) && counts(rule) && !(synthetic && rule.host.length != 0)) {
      const int whole = rule.host.family == Family::kV4 ? 32 : 128;
      const bool one = rule.host.family != Family::kAny && rule.host.length == whole;
      (one ? single : prefixes).push_back(&rule);
    }
  }
  for (const AddressRule& rule : policy.outgoing_names) {
    const bool covers = std::ranges::any_of(
        request.names, [&](const std::string& name) { return CoversDomain(rule.domain, name); });
    if (covers && counts(rule)) {
      names.push_back(&rule);
    }
  }
  if (!single.empty() || docker) {
    return Strongest(single, false);
  }
  const AddressRule* name = Strongest(names, false);
  const AddressRule* prefix = Strongest(prefixes, false);
  const bool opens_what_is_denied = name != nullptr && name->verdict != Verdict::kDeny &&
                                    prefix != nullptr && prefix->verdict == Verdict::kDeny &&
                                    prefix->host.length > 0;
  return name == nullptr || opens_what_is_denied ? prefix : name;
}

Answer OracleAddress(const CheckedPolicy& policy, const InetRequest& request, const IpAddress& ip) {
  const DnsRule dns = policy.dns.rule;
  const bool closes = dns == DnsRule::kDeny || dns == DnsRule::kProxy;
  const bool other = request.transport == Transport::kOther;
  const bool query = request.remote.port == 53 && dns != DnsRule::kFollow;
  const bool synthetic =
      dns == DnsRule::kProxy && policy.dns.resolve != Resolve::kServer &&
      (CoversAddress(ParseRule(kSyntheticV4, RuleKind::kOutgoing)->host, ip) ||
       CoversAddress(ParseRule("[" + std::string(kSyntheticV6) + "]", RuleKind::kOutgoing)->host,
                     ip));
  const bool docker = closes && !query && !other && ip == *IpAddress::Parse("127.0.0.11");
  if (synthetic && !query && request.names.empty()) {
    return {};
  }
  const AddressRule* rule = OracleRule(policy, request, ip, query && closes, synthetic, docker);
  Answer answer;
  if (rule != nullptr) {
    answer = AnswerOf(rule->verdict, rule->carry, rule->proxy);
  } else if (docker) {
    return {};
  } else if (query && dns == DnsRule::kProxy) {
    answer = AnswerOf(Verdict::kRedirect, Carry::kResolver, policy.proxy);
  } else if (query) {
    answer.verdict = dns == DnsRule::kAllow ? Verdict::kAllow : Verdict::kDeny;
  } else if (policy.outgoing_default == Verdict::kRedirect) {
    answer = AnswerOf(Verdict::kRedirect, Carry::kProxy, policy.proxy);
  } else {
    answer.verdict = policy.outgoing_default;
  }
  if (synthetic && answer.verdict == Verdict::kAllow) {
    answer = AnswerOf(Verdict::kRedirect, Carry::kProxy, policy.proxy);
  }
  if (other && answer.verdict == Verdict::kRedirect) {
    return {};
  }
  if (query && dns == DnsRule::kAllow && !other && answer.verdict == Verdict::kAllow) {
    answer.carry = Carry::kResolver;
  }
  return answer;
}

Answer OracleDestination(const CheckedPolicy& policy, const InetRequest& request) {
  const IpAddress ip = CanonicalDestination(request.remote.ip);
  Answer direct = OracleAddress(policy, request, ip);
  const auto embedded = EmbeddedV4(ip);
  if (!embedded) {
    return direct;
  }
  Answer carried = OracleAddress(policy, request, CanonicalDestination(*embedded));
  const auto rank = [](const Answer& answer) {
    return std::pair(Strictness(answer.verdict),
                     answer.verdict == Verdict::kAllow && answer.carry == Carry::kResolver);
  };
  return rank(carried) > rank(direct) ? carried : direct;
}

Answer Oracle(const CheckedPolicy& policy, const InetRequest& request) {
  if (request.operation == Operation::kConnect || request.operation == Operation::kSend) {
    return OracleDestination(policy, request);
  }
  const bool accepting = request.operation == Operation::kAccept;
  const Endpoint& local = request.local;
  if (request.operation == Operation::kBind && local.port == 0) {
    return {.verdict = Verdict::kAllow};
  }
  const bool wildcard = local.ip == IpAddress() || local.ip == IpAddress::FromV4({0, 0, 0, 0});
  std::vector<const AddressRule*> rules;
  for (const AddressRule& rule : policy.incoming) {
    const bool port_covered = CoversPort(rule, local.port, request.transport);
    if (!accepting && wildcard && request.transport != Transport::kTcp && port_covered &&
        rule.verdict == Verdict::kDeny && !rule.from && rule.host.family != Family::kAny &&
        (rule.host.family == Family::kV4 || !local.ip.IsV4())) {
      return {.verdict = Verdict::kDeny};
    }
    if (!port_covered || !CoversAddress(rule.host, local.ip)) {
      continue;
    }
    if (accepting ? !rule.from || CoversAddress(*rule.from, request.remote.ip)
                  : !rule.from || rule.verdict == Verdict::kAllow) {
      rules.push_back(&rule);
    }
  }
  return {.verdict = VerdictOf(Strongest(rules, accepting), policy.incoming_default)};
}

TEST(OracleTest, DecideAgreesWithEveryRule) {
  Random random(42);
  size_t denied = 0;
  size_t by_rule = 0;
  size_t carried = 0;
  size_t by_name = 0;
  for (int round = 0; round < 400; ++round) {
    const std::string text = RandomPolicy(random);
    const auto set = MustParse(text);
    ASSERT_NE(set, nullptr);
    const Policy& policy = *set->Find("p");
    for (int i = 0; i < 300; ++i) {
      InetRequest request = RandomRequest(random);
      const std::vector<std::string> names = RandomNames(random);
      request.names = names;
      const Decision decision = policy.Decide(request);
      const Explanation explanation = Explain(policy, request);
      const std::string where =
          text + "\noperation " + std::to_string(static_cast<int>(request.operation)) +
          " transport " + std::to_string(static_cast<int>(request.transport)) + " remote " +
          request.remote.ip.ToString() + " " + std::to_string(request.remote.port) + " local " +
          request.local.ip.ToString() + " " + std::to_string(request.local.port) + " names " +
          (names.empty() ? "" : names.front()) + " " + (names.empty() ? "" : names.back());
      const Answer answer = AnswerOf(decision.verdict, decision.carry, decision.proxy);
      ASSERT_EQ(decision.rule, explanation.rule) << where;
      ASSERT_TRUE(answer == AnswerOf(explanation.verdict, explanation.carry, explanation.proxy))
          << where << "\nby " << decision.rule;
      ASSERT_TRUE(answer == Oracle(policy.compiled().source, request))
          << where << "\nby " << decision.rule;
      carried += decision.carry != Carry::kDirect ? 1 : 0;
      by_name += decision.rule.find(".a") != std::string_view::npos ? 1 : 0;
      denied += decision.verdict == Verdict::kDeny ? 1 : 0;
      by_rule += decision.rule.find("default") == std::string_view::npos ? 1 : 0;
    }
  }
  // The cases are worth something only if both answers, by rules, are common.
  EXPECT_GT(denied, 20000U);
  EXPECT_LT(denied, 100000U);
  EXPECT_GT(by_rule, 40000U);
  EXPECT_GT(carried, 5000U);
  EXPECT_GT(by_name, 1000U);
}

// Every request that a deny rule decides changes its verdict, or the rule it is denied by, once
// that rule is gone.
TEST(OracleTest, ADenialGoesWithItsRule) {
  Random random(43);
  size_t tried = 0;
  for (int round = 0; round < 60; ++round) {
    const auto set = MustParse(RandomPolicy(random));
    const CheckedPolicy& source = set->Find("p")->compiled().source;
    for (int i = 0; i < 40; ++i) {
      InetRequest request = RandomRequest(random);
      const std::vector<std::string> names = RandomNames(random);
      request.names = names;
      const Decision decision = set->Find("p")->Decide(request);
      if (decision.verdict != Verdict::kDeny ||
          decision.rule.find("going.deny ") == std::string_view::npos) {
        continue;
      }
      CheckedPolicy without = source;
      for (std::vector<AddressRule>* rules : {&without.outgoing, &without.outgoing_names}) {
        std::erase_if(*rules, [&](const AddressRule& rule) { return rule.text == decision.rule; });
      }
      const Policy changed(Compile(std::move(without), set->Find("p")->compiled().files));
      EXPECT_NE(changed.Decide(request).rule, decision.rule);
      ++tried;
    }
  }
  EXPECT_GT(tried, 100U);
}

TEST(OracleTest, ManyPortsOnOneAddress) {
  std::string text =
      R"({"version": 1, "policies": {"p": {"mode": "enforce", "outgoing": {"allow": [)";
  for (int port = 1; port < 20000; port += 2) {
    text += (port == 1 ? "\"10.0.0.1:" : ",\"10.0.0.1:") + std::to_string(port) + "/tcp\"";
  }
  const auto set = MustParse(text + R"(], "deny": ["10.0.0.1:1000-1999"]}}}})");
  const Policy& policy = *set->Find("p");
  for (uint16_t port = 1; port < 20002; ++port) {
    const Decision decision = policy.Decide(testing::Outgoing("10.0.0.1", port));
    const bool odd = port % 2 == 1 && port < 20000;
    ASSERT_EQ(decision.verdict, odd ? Verdict::kAllow : Verdict::kDeny) << port;
    ASSERT_EQ(decision.rule, odd ? "outgoing.allow 10.0.0.1:" + std::to_string(port) + "/tcp"
                             : port >= 1000 && port < 2000 ? "outgoing.deny 10.0.0.1:1000-1999"
                             : port == 53                  ? "dns deny"
                                                           : "outgoing.default deny")
        << port;
  }
}

}  // namespace
}  // namespace oakum::policy
