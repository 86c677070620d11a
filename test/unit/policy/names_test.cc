// Rules for names: which names they cover, and how they stand to rules for addresses.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::MustParse;
using testing::OnePolicy;
using testing::Outgoing;

using Names = std::vector<std::string>;

constexpr Verdict kAllow = Verdict::kAllow;
constexpr Verdict kDeny = Verdict::kDeny;
constexpr Verdict kRedirect = Verdict::kRedirect;

struct Case {
  std::string_view ip;
  uint16_t port;
  Names names;
  Verdict verdict;
  std::string_view rule;
};

void Expect(std::string_view outgoing, const std::vector<Case>& cases) {
  const auto set = MustParse(
      OnePolicy(R"("proxy": "tor", "dns": "allow", "outgoing": )" + std::string(outgoing)));
  ASSERT_NE(set, nullptr);
  const Policy& policy = *set->Find("p");
  EXPECT_TRUE(policy.names_domains());
  for (const Case& c : cases) {
    InetRequest request = Outgoing(c.ip, c.port);
    request.names = c.names;
    const Decision decision = policy.Decide(request);
    SCOPED_TRACE(std::string(c.ip) + " " + std::to_string(c.port) + " " +
                 (c.names.empty() ? "" : c.names[0]));
    EXPECT_EQ(decision.verdict, c.verdict);
    EXPECT_EQ(decision.rule, c.rule);
  }
}

TEST(NamesTest, WhatARuleCovers) {
  constexpr std::string_view kDefault = "outgoing.default deny";
  Expect(R"({"allow": ["Example.COM:443", "*.a.b", "org."]})",
         {{"1.2.3.4", 443, {"example.com"}, kAllow, "outgoing.allow Example.COM:443"},
          {"fd00::1", 443, {"example.com"}, kAllow, "outgoing.allow Example.COM:443"},
          {"1.2.3.4", 80, {"example.com"}, kDeny, kDefault},
          {"1.2.3.4", 443, {"www.example.com"}, kDeny, kDefault},
          {"1.2.3.4", 443, {"example.com.evil"}, kDeny, kDefault},
          {"1.2.3.4", 443, {"xexample.com"}, kDeny, kDefault},
          {"1.2.3.4", 443, {}, kDeny, kDefault},
          {"1.2.3.4", 443, {""}, kDeny, kDefault},
          {"1.2.3.4", 1, {"x.a.b"}, kAllow, "outgoing.allow *.a.b"},
          {"1.2.3.4", 1, {"y.x.a.b"}, kAllow, "outgoing.allow *.a.b"},
          {"1.2.3.4", 1, {"a.b"}, kDeny, kDefault},
          {"1.2.3.4", 1, {"xa.b"}, kDeny, kDefault},
          {"1.2.3.4", 1, {"org"}, kAllow, "outgoing.allow org."},
          {"1.2.3.4", 1, {"x.org"}, kDeny, kDefault},
          {"1.2.3.4", 1, {"no", "x.a.b"}, kAllow, "outgoing.allow *.a.b"},
          {"1.2.3.4", 1, {std::string(300, 'a') + ".a.b"}, kDeny, kDefault}});
}

TEST(NamesTest, TheMoreExactNameWins) {
  Expect(R"({"default": "allow", "allow": ["ok.bad.com", "*.ok.bad.com:80"],
             "deny": ["*.com", "bad.com", "*.bad.com"], "redirect": ["*.x.ok.bad.com:80"]})",
         {{"1.2.3.4", 1, {"ok.bad.com"}, kAllow, "outgoing.allow ok.bad.com"},
          {"1.2.3.4", 1, {"no.bad.com"}, kDeny, "outgoing.deny *.bad.com"},
          {"1.2.3.4", 1, {"bad.com"}, kDeny, "outgoing.deny bad.com"},
          {"1.2.3.4", 1, {"good.com"}, kDeny, "outgoing.deny *.com"},
          {"1.2.3.4", 1, {"good.org"}, kAllow, "outgoing.default allow"},
          {"1.2.3.4", 80, {"a.ok.bad.com"}, kAllow, "outgoing.allow *.ok.bad.com:80"},
          // A longer wildcard that is about other ports leaves it to the next.
          {"1.2.3.4", 81, {"a.ok.bad.com"}, kDeny, "outgoing.deny *.bad.com"},
          {"1.2.3.4", 80, {"a.x.ok.bad.com"}, kRedirect, "outgoing.redirect *.x.ok.bad.com:80"}});
}

TEST(NamesTest, TiesAreDenied) {
  Expect(R"({"allow": ["a.com", "b.com:80", "*.c.com"], "deny": ["a.com", "d.com", "*.e.com"],
             "redirect": ["a.com"]})",
         {{"1.2.3.4", 1, {"a.com"}, kDeny, "outgoing.deny a.com"},
          // One address that was told for several names.
          {"1.2.3.4", 1, {"x.c.com", "x.e.com"}, kDeny, "outgoing.deny *.e.com"},
          {"1.2.3.4", 1, {"x.e.com", "x.c.com"}, kDeny, "outgoing.deny *.e.com"},
          {"1.2.3.4", 1, {"x.c.com", "d.com"}, kDeny, "outgoing.deny d.com"},
          {"1.2.3.4", 80, {"d.com", "b.com"}, kAllow, "outgoing.allow b.com:80"}});
}

TEST(NamesTest, AddressesAndNames) {
  Expect(R"({"default": "deny", "allow": ["*.good.com", "5.0.0.0/8", "7.7.7.7:80"],
             "deny": ["10.0.0.0/8", "*:25", "bad.com", "6.6.6.6"],
             "redirect": ["*.far.com", "9.0.0.0/8"]})",
         {// One address alone beats a name.
          {"6.6.6.6", 80, {"x.good.com"}, kDeny, "outgoing.deny 6.6.6.6"},
          {"7.7.7.7", 80, {"bad.com"}, kAllow, "outgoing.allow 7.7.7.7:80"},
          {"7.7.7.7", 81, {"bad.com"}, kDeny, "outgoing.deny bad.com"},
          // A name beats prefixes.
          {"5.1.1.1", 80, {"bad.com"}, kDeny, "outgoing.deny bad.com"},
          {"5.1.1.1", 80, {"x.far.com"}, kRedirect, "outgoing.redirect *.far.com"},
          {"9.1.1.1", 80, {"x.good.com"}, kAllow, "outgoing.allow *.good.com"},
          {"1.1.1.1", 25, {"x.good.com"}, kAllow, "outgoing.allow *.good.com"},
          // But whoever owns a name cannot open what is denied by address.
          {"10.1.1.1", 80, {"x.good.com"}, kDeny, "outgoing.deny 10.0.0.0/8"},
          {"10.1.1.1", 80, {"x.far.com"}, kDeny, "outgoing.deny 10.0.0.0/8"},
          {"64:ff9b::10.1.1.1", 80, {"x.good.com"}, kDeny, "outgoing.deny 10.0.0.0/8"},
          {"64:ff9b::1.1.1.1", 80, {"x.good.com"}, kAllow, "outgoing.allow *.good.com"}});
}

TEST(NamesTest, Queries) {
  const auto set = MustParse(OnePolicy(
      R"("proxy": "tor", "dns": "proxy", "resolve": "tor", "outgoing": {
         "allow": ["dns.example:53", "*.example"], "deny": ["*.bad"]})"));
  const Policy& policy = *set->Find("p");
  const auto rule = [&](const Names& names) {
    InetRequest request = Outgoing("1.2.3.4", 53, Transport::kUdp);
    request.names = names;
    return std::string(policy.Decide(request).rule);
  };
  EXPECT_EQ(rule({"dns.example"}), "outgoing.allow dns.example:53");
  EXPECT_EQ(rule({"other.example"}), "dns proxy");
  EXPECT_EQ(rule({"x.bad"}), "outgoing.deny *.bad");
}

TEST(NamesTest, ManyNames) {
  std::string text = R"("dns": "allow", "outgoing": {"allow": [)";
  for (int i = 0; i < 20000; ++i) {
    text += (i == 0 ? "\"" : ",\"") + std::string(i % 2 == 0 ? "" : "*.") + "n" +
            std::to_string(i) + ".example.com\"";
  }
  const auto set = MustParse(OnePolicy(text + "]}"));
  const Policy& policy = *set->Find("p");
  for (int i = 0; i < 20000; ++i) {
    const std::string name = "n" + std::to_string(i) + ".example.com";
    const Names exact = {name};
    const Names below = {"a." + name};
    InetRequest request = Outgoing("1.2.3.4", 80);
    request.names = exact;
    ASSERT_EQ(policy.Decide(request).verdict, i % 2 == 0 ? kAllow : kDeny) << name;
    request.names = below;
    ASSERT_EQ(policy.Decide(request).verdict, i % 2 == 0 ? kDeny : kAllow) << name;
  }
}

}  // namespace
}  // namespace oakum::policy
