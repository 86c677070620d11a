// How what is not refused gets there: which proxy, the agent's resolver, or checked.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "plan_testing.h"
#include "policy/plan.h"
#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::MustParse;
using testing::Outgoing;

constexpr Verdict kAllow = Verdict::kAllow;
constexpr Verdict kDeny = Verdict::kDeny;
constexpr Verdict kRedirect = Verdict::kRedirect;

// A file with the proxies "tor" and "corp" and one policy "p".
std::string TwoProxies(std::string_view members, std::string_view mode = "enforce") {
  return R"({"version": 1, "proxies": {"tor": {"url": "socks5h://10.88.0.1:9050"},
             "corp": {"url": "http://proxy.corp:3128"}}, "policies": {"p": {"mode": ")" +
         std::string(mode) + "\", " + std::string(members) + "}}}";
}

struct Case {
  std::string_view members;
  InetRequest request;
  Verdict verdict;
  std::string_view rule;
  Carry carry = Carry::kDirect;
  std::string_view proxy = "";
};

void Expect(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.members) + " " + c.request.remote.ip.ToString() + " " +
                 std::to_string(c.request.remote.port));
    const auto set = MustParse(TwoProxies(c.members));
    ASSERT_NE(set, nullptr);
    const Decision decision = set->Find("p")->Decide(c.request);
    EXPECT_EQ(decision.verdict, c.verdict);
    EXPECT_EQ(decision.rule, c.rule);
    EXPECT_EQ(decision.carry, c.carry);
    EXPECT_EQ(decision.proxy != nullptr ? decision.proxy->name : "", c.proxy);
  }
}

InetRequest Named(std::string_view ip, uint16_t port, const std::vector<std::string>& names,
                  Transport transport = Transport::kTcp) {
  InetRequest request = Outgoing(ip, port, transport);
  request.names = names;
  return request;
}

TEST(CarryTest, Redirect) {
  constexpr std::string_view kAll =
      R"("proxy": "tor", "outgoing": {"default": "redirect", "allow": ["10.0.0.0/8"],
         "deny": ["*:25"]})";
  constexpr std::string_view kSome =
      R"("proxy": "tor", "dns": "deny", "outgoing": {"redirect": ["0.0.0.0/0:80,443/tcp via corp",
         "1.2.3.4:80", "9.0.0.0/8"], "allow": ["9.9.9.9"]})";
  Expect({
      {kAll, Outgoing("1.2.3.4", 80), kRedirect, "outgoing.default redirect", Carry::kProxy, "tor"},
      {kAll, Outgoing("fd00::1", 80), kRedirect, "outgoing.default redirect", Carry::kProxy, "tor"},
      {kAll, Outgoing("1.2.3.4", 443, Transport::kUdp), kRedirect, "outgoing.default redirect",
       Carry::kProxy, "tor"},
      {kAll, Outgoing("10.1.2.3", 80), kAllow, "outgoing.allow 10.0.0.0/8"},
      {kAll, Outgoing("1.2.3.4", 25), kDeny, "outgoing.deny *:25"},
      // No proxy carries a ping.
      {kAll, Outgoing("1.2.3.4", 0, Transport::kOther), kDeny, "outgoing.default redirect"},
      {kSome, Outgoing("1.2.3.5", 443), kRedirect,
       "outgoing.redirect 0.0.0.0/0:80,443/tcp via corp", Carry::kProxy, "corp"},
      {kSome, Outgoing("1.2.3.4", 80), kRedirect, "outgoing.redirect 1.2.3.4:80", Carry::kProxy,
       "tor"},
      {kSome, Outgoing("9.1.1.1", 22), kRedirect, "outgoing.redirect 9.0.0.0/8", Carry::kProxy,
       "tor"},
      {kSome, Outgoing("9.1.1.1", 0, Transport::kOther), kDeny, "outgoing.redirect 9.0.0.0/8"},
      {kSome, Outgoing("9.9.9.9", 22), kAllow, "outgoing.allow 9.9.9.9"},
      {kSome, Outgoing("1.2.3.5", 443, Transport::kUdp), kDeny, "outgoing.default deny"},
      // What carries an IPv4 address is at least as strict.
      {R"("proxy": "tor", "outgoing": {"default": "allow", "redirect": ["1.2.3.0/24 via corp"]})",
       Outgoing("64:ff9b::1.2.3.4", 80), kRedirect, "outgoing.redirect 1.2.3.0/24 via corp",
       Carry::kProxy, "corp"},
  });
}

TEST(CarryTest, TheProxyItself) {
  constexpr std::string_view kPlain = R"("proxy": "tor", "outgoing": {"default": "redirect"})";
  constexpr std::string_view kChecked =
      R"("proxy": "tor", "handshake": {"require": "socks5"}, "outgoing": {"default": "allow"})";
  Expect({
      {kPlain, Outgoing("10.88.0.1", 9050), kAllow, "proxy"},
      {kPlain, Outgoing("10.88.0.1", 9051), kRedirect, "outgoing.default redirect", Carry::kProxy,
       "tor"},
      {kChecked, Outgoing("10.88.0.1", 9050), kAllow, "proxy", Carry::kChecked, "tor"},
      {kChecked, Outgoing("::ffff:10.88.0.1", 9050), kAllow, "proxy", Carry::kChecked, "tor"},
      // The same proxy behind a translator's address.
      {kChecked, Outgoing("64:ff9b::10.88.0.1", 9050), kAllow, "proxy", Carry::kChecked, "tor"},
      {kChecked, Outgoing("10.88.0.1", 9051), kAllow, "outgoing.default allow"},
      // A name has no address to allow.
      {R"("proxy": "corp", "outgoing": {"default": "deny"})", Outgoing("10.0.0.1", 3128), kDeny,
       "outgoing.default deny"},
  });
}

TEST(CarryTest, Queries) {
  constexpr std::string_view kProxy =
      R"("proxy": "tor", "outgoing": {"default": "redirect", "allow": ["127.0.0.0/8", "10.0.0.53:53",
         "*:1-1024"], "deny": ["10.0.0.0/8"], "redirect": ["9.9.9.9:53/tcp via corp"]})";
  constexpr std::string_view kAllowed =
      R"("dns": "allow", "outgoing": {"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]})";
  Expect({
      {kProxy, Outgoing("8.8.8.8", 53, Transport::kUdp), kRedirect, "dns proxy", Carry::kResolver,
       "tor"},
      {kProxy, Outgoing("8.8.8.8", 53), kRedirect, "dns proxy", Carry::kResolver, "tor"},
      {kProxy, Outgoing("127.0.0.1", 53, Transport::kUdp), kRedirect, "dns proxy", Carry::kResolver,
       "tor"},
      {kProxy, Outgoing("127.0.0.11", 53, Transport::kUdp), kRedirect, "dns proxy",
       Carry::kResolver, "tor"},
      {kProxy, Outgoing("127.0.0.11", 40000, Transport::kUdp), kDeny, "dns proxy"},
      {kProxy, Outgoing("127.0.0.11", 40000), kDeny, "dns proxy"},
      {kProxy, Outgoing("127.0.0.12", 40000), kAllow, "outgoing.allow 127.0.0.0/8"},
      {kProxy, Outgoing("8.8.8.8", 53, Transport::kOther), kDeny, "dns proxy"},
      {kProxy, Outgoing("10.0.0.53", 53, Transport::kUdp), kAllow, "outgoing.allow 10.0.0.53:53"},
      {kProxy, Outgoing("10.0.0.54", 53, Transport::kUdp), kDeny, "outgoing.deny 10.0.0.0/8"},
      {kProxy, Outgoing("9.9.9.9", 53), kRedirect, "outgoing.redirect 9.9.9.9:53/tcp via corp",
       Carry::kProxy, "corp"},
      {kProxy, Outgoing("9.9.9.9", 53, Transport::kUdp), kRedirect, "dns proxy", Carry::kResolver,
       "tor"},
      {kAllowed, Outgoing("8.8.8.8", 53, Transport::kUdp), kAllow, "dns allow", Carry::kResolver},
      {kAllowed, Outgoing("8.8.8.8", 53), kAllow, "dns allow", Carry::kResolver},
      // A rule that allows the server does not keep its answers from being watched.
      {kAllowed, Outgoing("10.2.0.1", 53, Transport::kUdp), kAllow, "outgoing.allow 10.0.0.0/8",
       Carry::kResolver},
      {kAllowed, Outgoing("10.1.0.1", 53, Transport::kUdp), kDeny, "outgoing.deny 10.1.0.0/16"},
      {kAllowed, Outgoing("10.2.0.1", 80), kAllow, "outgoing.allow 10.0.0.0/8"},
      {kAllowed, Outgoing("8.8.8.8", 53, Transport::kOther), kAllow, "dns allow"},
      {R"("outgoing": {"default": "allow"})", Outgoing("8.8.8.8", 53, Transport::kUdp), kAllow,
       "outgoing.default allow"},
  });
  // Audit answers nothing and watches nothing.
  const auto audit = MustParse(TwoProxies(R"("dns": "allow")", "audit"));
  EXPECT_EQ(audit->Find("p")->Decide(Outgoing("8.8.8.8", 53, Transport::kUdp)).carry,
            Carry::kDirect);
}

TEST(CarryTest, AddressesThatStandForNames) {
  static const std::vector<std::string> kWww = {"www.example.com"};
  constexpr std::string_view kAll = R"("proxy": "tor", "outgoing": {"default": "redirect",
      "deny": ["*:25", "198.18.0.0/15", "bad.example.com"], "redirect": ["*.onion via corp"]})";
  constexpr std::string_view kFew = R"("proxy": "tor", "dns": "proxy", "outgoing": {
      "default": "deny", "allow": ["*.example.com:443"], "redirect": ["0.0.0.0/0:80/tcp"]})";
  constexpr std::string_view kTor = R"("proxy": "tor", "dns": "proxy", "resolve": "tor",
      "outgoing": {"default": "allow", "deny": ["198.18.0.0/15"]})";
  static const std::vector<std::string> kBad = {"bad.example.com"};
  static const std::vector<std::string> kOnion = {"x.onion"};
  static const std::vector<std::string> kElsewhere = {"example.org"};
  Expect({
      {kAll, Named("198.18.0.5", 80, kWww), kRedirect, "outgoing.default redirect", Carry::kProxy,
       "tor"},
      {kAll, Named("fd6f:616b:756d::5", 80, kWww), kRedirect, "outgoing.default redirect",
       Carry::kProxy, "tor"},
      {kAll, Named("198.19.255.255", 80, kOnion), kRedirect, "outgoing.redirect *.onion via corp",
       Carry::kProxy, "corp"},
      {kAll, Named("198.18.0.5", 80, kBad), kDeny, "outgoing.deny bad.example.com"},
      {kAll, Named("198.18.0.5", 25, kWww), kDeny, "outgoing.deny *:25"},
      {kAll, Named("198.18.0.5", 80, {}), kDeny, "dns unknown address"},
      {kAll, Outgoing("fd6f:616b:756d::5", 80, Transport::kUdp), kDeny, "dns unknown address"},
      {kAll, Outgoing("198.18.0.5", 53, Transport::kUdp), kRedirect, "dns proxy", Carry::kResolver,
       "tor"},
      {kAll, Outgoing("198.20.0.0", 80), kRedirect, "outgoing.default redirect", Carry::kProxy,
       "tor"},
      {kAll, Outgoing("fd6f:616b:756d:1::", 80), kRedirect, "outgoing.default redirect",
       Carry::kProxy, "tor"},
      // There is no address that an allowed name could be connected to.
      {kFew, Named("198.18.0.5", 443, kWww), kRedirect, "outgoing.allow *.example.com:443",
       Carry::kProxy, "tor"},
      {kFew, Named("198.18.0.5", 444, kWww), kDeny, "outgoing.default deny"},
      {kFew, Named("198.18.0.5", 443, kElsewhere), kDeny, "outgoing.default deny"},
      // Rules for every address hold for names as well.
      {kFew, Named("198.18.0.5", 80, kElsewhere), kRedirect, "outgoing.redirect 0.0.0.0/0:80/tcp",
       Carry::kProxy, "tor"},
      {R"("proxy": "tor", "dns": "proxy", "outgoing": {"default": "allow"})",
       Named("198.18.0.5", 80, kWww), kRedirect, "outgoing.default allow", Carry::kProxy, "tor"},
      // Without synthetic answers they are addresses like others.
      {R"("proxy": "tor", "dns": "proxy", "resolve": "tcp://1.2.3.4:53", "outgoing": {
             "deny": ["198.18.0.0/15"]})",
       Outgoing("198.18.0.5", 80), kDeny, "outgoing.deny 198.18.0.0/15"},
      // Tor tells no address for names below "onion".
      {kTor, Named("198.18.0.5", 80, kOnion), kRedirect, "outgoing.default allow", Carry::kProxy,
       "tor"},
      {kTor, Named("198.18.0.5", 80, {}), kDeny, "dns unknown address"},
      {R"("proxy": "tor", "dns": "deny", "outgoing": {"default": "redirect"})",
       Outgoing("198.18.0.5", 80), kRedirect, "outgoing.default redirect", Carry::kProxy, "tor"},
  });
}

TEST(CarryTest, WhatAPolicyCarries) {
  struct Carries {
    std::string_view members;
    bool any;
    bool datagrams;
    bool audited = false;  // also in audit
  };
  for (const Carries& c : std::vector<Carries>{
           {R"("proxy": "tor")", false, false},
           {R"("outgoing": {"default": "allow"})", false, false},
           {R"("dns": "allow")", true, true},
           {R"("proxy": "tor", "dns": "proxy")", true, true},
           {R"("proxy": "tor", "dns": "deny", "outgoing": {"default": "redirect"})", true, true},
           {R"("outgoing": {"redirect": ["* via tor"]})", true, true},
           {R"("outgoing": {"redirect": ["*/tcp via tor"]})", true, false},
           {R"("proxy": "tor", "handshake": {"require": "socks5"})", true, false, true}}) {
    SCOPED_TRACE(std::string(c.members));
    const auto set = MustParse(TwoProxies(c.members));
    const Policy& policy = *set->Find("p");
    EXPECT_EQ(policy.carries(), c.any);
    EXPECT_EQ(policy.carries_datagrams(), c.datagrams);
    const oci::SeccompPlan plan = Plan(policy);
    EXPECT_EQ(testing::FindSyscall(plan, "getpeername") != nullptr, c.any);
    for (const char* name : {"recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64"}) {
      EXPECT_EQ(testing::FindSyscall(plan, name) != nullptr, c.datagrams) << name;
    }
    const auto audit = MustParse(TwoProxies(c.members, "audit"));
    EXPECT_EQ(audit->Find("p")->carries(), c.audited);
    EXPECT_FALSE(audit->Find("p")->carries_datagrams());
  }
}

TEST(CarryTest, ReceivingAsksOnlyForTheSender) {
  const auto set = MustParse(TwoProxies(R"("dns": "allow")"));
  const oci::SeccompPlan plan = Plan(*set->Find("p"));
  const oci::SyscallPlan& receive = *testing::FindSyscall(plan, "recvfrom");
  const auto action = [&](uint64_t source) {
    const testing::Registers registers = {3, 0x1000, 10, 0, source, 0x2000};
    const auto branches = testing::BranchesOf(receive, registers);
    EXPECT_EQ(branches.size(), 1U);
    return branches.at(0)->action;
  };
  EXPECT_EQ(action(0), oci::FilterAction::kAllow);
  EXPECT_EQ(action(0x1000), oci::FilterAction::kNotify);
  EXPECT_EQ(action(uint64_t{1} << 32), oci::FilterAction::kNotify);
}

// A policy that is copied out of its set keeps what its decisions point to.
TEST(CarryTest, ProxiesLiveAsLongAsThePolicy) {
  auto set = MustParse(TwoProxies(R"("proxy": "tor", "outgoing": {"default": "redirect"})"));
  const Policy policy = *set->Find("p");
  set.reset();
  const Decision decision = policy.Decide(Outgoing("1.2.3.4", 80));
  EXPECT_EQ(decision.proxy->name, "tor");
  EXPECT_EQ(policy.proxy(), decision.proxy);
}

}  // namespace
}  // namespace oakum::policy
