// Random policies: the compiled form answers as one that looks at every rule, and as an oracle
// written here from docs/policy.md alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
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

std::string RandomList(Random& random, bool incoming) {
  std::string list = "[";
  const size_t count = random() % 12;
  for (size_t i = 0; i < count; ++i) {
    list += (i == 0 ? "\"" : ", \"") + RandomRule(random, incoming) + "\"";
  }
  return list + "]";
}

std::string RandomPolicy(Random& random) {
  static const std::vector<std::string> kDefaults = {"allow", "deny"};
  static const std::vector<std::string> kDns = {"", R"("dns": "allow",)", R"("dns": "deny",)"};
  return R"({"version": 1, "policies": {"p": {"mode": "enforce", )" + Pick(random, kDns) +
         R"("outgoing": {"default": ")" + Pick(random, kDefaults) + R"(", "allow": )" +
         RandomList(random, false) + R"(, "deny": )" + RandomList(random, false) +
         R"(}, "incoming": {"default": ")" + Pick(random, kDefaults) + R"(", "allow": )" +
         RandomList(random, true) + R"(, "deny": )" + RandomList(random, true) + "}}}}";
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

// The verdict of the most specific of the rules, or `otherwise`. `from_first`: rules for longer
// peer prefixes come first.
Verdict Strongest(const std::vector<const AddressRule*>& rules, bool from_first,
                  Verdict otherwise) {
  const auto key = [&](const AddressRule& rule) {
    int ports = 65536;
    if (!rule.ports.empty()) {
      ports = 0;
      for (const PortRange& range : rule.ports) {
        ports += range.last - range.first + 1;
      }
    }
    return std::tuple(from_first && rule.from ? rule.from->length : 0, rule.host.length, -ports,
                      rule.transport ? 1 : 0, rule.verdict == Verdict::kDeny ? 1 : 0);
  };
  const auto best = std::max_element(
      rules.begin(), rules.end(), [&](const auto* a, const auto* b) { return key(*a) < key(*b); });
  return best == rules.end() ? otherwise : (*best)->verdict;
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

Verdict OracleDestination(const CheckedPolicy& policy, IpAddress ip, uint16_t port,
                          Transport transport) {
  const bool dns_deny = port == 53 && policy.dns.rule == DnsRule::kDeny;
  std::vector<const AddressRule*> rules;
  for (const AddressRule& rule : policy.outgoing) {
    if (CoversAddress(rule.host, ip) && CoversPort(rule, port, transport) &&
        !(dns_deny && rule.verdict == Verdict::kAllow && !rule.names_dns)) {
      rules.push_back(&rule);
    }
  }
  const Verdict otherwise = dns_deny ? Verdict::kDeny
                            : port == 53 && policy.dns.rule == DnsRule::kAllow
                                ? Verdict::kAllow
                                : policy.outgoing_default;
  return Strongest(rules, false, otherwise);
}

Verdict Oracle(const CheckedPolicy& policy, const InetRequest& request) {
  const uint16_t port = request.remote.port;
  if (request.operation == Operation::kConnect || request.operation == Operation::kSend) {
    const IpAddress ip = CanonicalDestination(request.remote.ip);
    if (OracleDestination(policy, ip, port, request.transport) == Verdict::kDeny) {
      return Verdict::kDeny;
    }
    const auto carried = EmbeddedV4(ip);
    return carried
               ? OracleDestination(policy, CanonicalDestination(*carried), port, request.transport)
               : Verdict::kAllow;
  }
  const bool accepting = request.operation == Operation::kAccept;
  const Endpoint& local = request.local;
  if (request.operation == Operation::kBind && local.port == 0) {
    return Verdict::kAllow;
  }
  const bool wildcard = local.ip == IpAddress() || local.ip == IpAddress::FromV4({0, 0, 0, 0});
  std::vector<const AddressRule*> rules;
  for (const AddressRule& rule : policy.incoming) {
    const bool port_covered = CoversPort(rule, local.port, request.transport);
    if (!accepting && wildcard && request.transport != Transport::kTcp && port_covered &&
        rule.verdict == Verdict::kDeny && !rule.from && rule.host.family != Family::kAny &&
        (rule.host.family == Family::kV4 || !local.ip.IsV4())) {
      return Verdict::kDeny;
    }
    if (!port_covered || !CoversAddress(rule.host, local.ip)) {
      continue;
    }
    if (accepting ? !rule.from || CoversAddress(*rule.from, request.remote.ip)
                  : !rule.from || rule.verdict == Verdict::kAllow) {
      rules.push_back(&rule);
    }
  }
  return Strongest(rules, accepting, policy.incoming_default);
}

TEST(OracleTest, DecideAgreesWithEveryRule) {
  Random random(42);
  size_t denied = 0;
  size_t by_rule = 0;
  for (int round = 0; round < 400; ++round) {
    const std::string text = RandomPolicy(random);
    const auto set = MustParse(text);
    ASSERT_NE(set, nullptr);
    const Policy& policy = *set->Find("p");
    for (int i = 0; i < 300; ++i) {
      const InetRequest request = RandomRequest(random);
      const Decision decision = policy.Decide(request);
      const Explanation explanation = Explain(policy, request);
      const std::string where =
          text + "\noperation " + std::to_string(static_cast<int>(request.operation)) +
          " transport " + std::to_string(static_cast<int>(request.transport)) + " remote " +
          request.remote.ip.ToString() + " " + std::to_string(request.remote.port) + " local " +
          request.local.ip.ToString() + " " + std::to_string(request.local.port);
      ASSERT_EQ(decision.verdict, explanation.verdict) << where;
      ASSERT_EQ(decision.rule, explanation.rule) << where;
      ASSERT_EQ(decision.verdict, Oracle(policy.compiled().source, request)) << where;
      denied += decision.verdict == Verdict::kDeny ? 1 : 0;
      by_rule += decision.rule.find("default") == std::string_view::npos ? 1 : 0;
    }
  }
  // The cases are worth something only if both answers, by rules, are common.
  EXPECT_GT(denied, 20000U);
  EXPECT_LT(denied, 100000U);
  EXPECT_GT(by_rule, 40000U);
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
      const InetRequest request = RandomRequest(random);
      const Decision decision = set->Find("p")->Decide(request);
      if (decision.verdict != Verdict::kDeny ||
          decision.rule.find("going.deny ") == std::string_view::npos) {
        continue;
      }
      CheckedPolicy without = source;
      std::erase_if(without.outgoing,
                    [&](const AddressRule& rule) { return rule.text == decision.rule; });
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
