// Outgoing, incoming and unix decisions, as tables. Each deny names the rule that makes it, and
// with that rule taken away the verdict changes.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::Accept;
using testing::Local;
using testing::MustParse;
using testing::OnePolicy;
using testing::Outgoing;

struct Case {
  std::string_view members;  // of the policy
  InetRequest request;
  Verdict verdict;
  std::string_view rule;
};

void Expect(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.members));
    SCOPED_TRACE(c.request.remote.ip.ToString() + " " + std::to_string(c.request.remote.port) +
                 " local " + c.request.local.ip.ToString() + " " +
                 std::to_string(c.request.local.port));
    const auto set = MustParse(OnePolicy(c.members));
    ASSERT_NE(set, nullptr);
    const Decision decision = set->Find("p")->Decide(c.request);
    EXPECT_EQ(decision.verdict, c.verdict);
    EXPECT_EQ(decision.rule, c.rule);
  }
}

constexpr Verdict kAllow = Verdict::kAllow;
constexpr Verdict kDeny = Verdict::kDeny;

TEST(DecideTest, DefaultsFailClosed) {
  Expect({
      {"", Outgoing("1.2.3.4", 80), kDeny, "outgoing.default deny"},
      {R"("outgoing": {})", Outgoing("1.2.3.4", 80), kDeny, "outgoing.default deny"},
      {R"("outgoing": {"default": "allow"})", Outgoing("1.2.3.4", 80), kAllow,
       "outgoing.default allow"},
      {"", Local(Operation::kBind, "1.2.3.4", 80), kAllow, "incoming.default allow"},
      {R"("incoming": {})", Local(Operation::kBind, "1.2.3.4", 80), kDeny, "incoming.default deny"},
      {R"("outgoing": {"default": "allow"})", Local(Operation::kSocket, "0.0.0.0", 0), kDeny,
       "socket"},
      {R"("outgoing": {"default": "allow"})", Local(Operation::kIoUring, "0.0.0.0", 0), kDeny,
       "io_uring"},
  });
}

TEST(DecideTest, LongerPrefixWins) {
  constexpr std::string_view kRules =
      R"("outgoing": {"default": "deny", "allow": ["10.0.0.0/8", "10.1.2.3", "[fd00::/8]"],
                      "deny": ["10.1.0.0/16", "[fd00:1::/32]"]})";
  Expect({
      {kRules, Outgoing("10.2.0.1", 80), kAllow, "outgoing.allow 10.0.0.0/8"},
      {kRules, Outgoing("10.1.0.1", 80), kDeny, "outgoing.deny 10.1.0.0/16"},
      {kRules, Outgoing("10.1.2.3", 80), kAllow, "outgoing.allow 10.1.2.3"},
      {kRules, Outgoing("11.0.0.1", 80), kDeny, "outgoing.default deny"},
      {kRules, Outgoing("fd00::1", 80), kAllow, "outgoing.allow [fd00::/8]"},
      {kRules, Outgoing("fd00:1::1", 80), kDeny, "outgoing.deny [fd00:1::/32]"},
      {kRules, Outgoing("fc00::1", 80), kDeny, "outgoing.default deny"},
      // Without its rule each of these denials is gone.
      {R"("outgoing": {"default": "deny", "allow": ["10.0.0.0/8"]})", Outgoing("10.1.0.1", 80),
       kAllow, "outgoing.allow 10.0.0.0/8"},
      {R"("outgoing": {"default": "deny", "allow": ["[fd00::/8]"]})", Outgoing("fd00:1::1", 80),
       kAllow, "outgoing.allow [fd00::/8]"},
  });
}

TEST(DecideTest, ARuleOfOtherPortsLeavesItToTheShorterPrefix) {
  constexpr std::string_view kRules =
      R"("outgoing": {"default": "deny", "allow": ["10.0.0.0/8", "10.1.2.3:443"],
                      "deny": ["10.1.2.3:22/tcp", "10.1.0.0/16:8000-8999"]})";
  Expect({
      {kRules, Outgoing("10.1.2.3", 443), kAllow, "outgoing.allow 10.1.2.3:443"},
      {kRules, Outgoing("10.1.2.3", 22), kDeny, "outgoing.deny 10.1.2.3:22/tcp"},
      {kRules, Outgoing("10.1.2.3", 22, Transport::kUdp), kAllow, "outgoing.allow 10.0.0.0/8"},
      {kRules, Outgoing("10.1.2.3", 8500), kDeny, "outgoing.deny 10.1.0.0/16:8000-8999"},
      {kRules, Outgoing("10.1.2.3", 9000), kAllow, "outgoing.allow 10.0.0.0/8"},
  });
}

TEST(DecideTest, SpecificityAtOnePrefix) {
  Expect({
      // Ports over none.
      {R"("outgoing": {"allow": ["10.0.0.1:443"], "deny": ["10.0.0.1"]})",
       Outgoing("10.0.0.1", 443), kAllow, "outgoing.allow 10.0.0.1:443"},
      {R"("outgoing": {"allow": ["10.0.0.1:443"], "deny": ["10.0.0.1"]})", Outgoing("10.0.0.1", 80),
       kDeny, "outgoing.deny 10.0.0.1"},
      // Fewer ports over more.
      {R"("outgoing": {"allow": ["10.0.0.1:443"], "deny": ["10.0.0.1:400-500"]})",
       Outgoing("10.0.0.1", 443), kAllow, "outgoing.allow 10.0.0.1:443"},
      {R"("outgoing": {"allow": ["10.0.0.1:1-1000"], "deny": ["10.0.0.1:80,443"]})",
       Outgoing("10.0.0.1", 443), kDeny, "outgoing.deny 10.0.0.1:80,443"},
      // A protocol over none, but only after ports.
      {R"("outgoing": {"allow": ["10.0.0.1:443/tcp"], "deny": ["10.0.0.1:443"]})",
       Outgoing("10.0.0.1", 443), kAllow, "outgoing.allow 10.0.0.1:443/tcp"},
      {R"("outgoing": {"allow": ["10.0.0.1/tcp"], "deny": ["10.0.0.1:443"]})",
       Outgoing("10.0.0.1", 443), kDeny, "outgoing.deny 10.0.0.1:443"},
      // Deny wins a tie.
      {R"("outgoing": {"allow": ["10.0.0.1:443/tcp"], "deny": ["10.0.0.1:443/tcp"]})",
       Outgoing("10.0.0.1", 443), kDeny, "outgoing.deny 10.0.0.1:443/tcp"},
      {R"("outgoing": {"allow": ["*:443"], "deny": ["0.0.0.0/0:443"]})", Outgoing("10.0.0.1", 443),
       kDeny, "outgoing.deny 0.0.0.0/0:443"},
      // The prefix counts before everything else.
      {R"("outgoing": {"allow": ["10.0.0.1"], "deny": ["10.0.0.0/31:443/tcp"]})",
       Outgoing("10.0.0.1", 443), kAllow, "outgoing.allow 10.0.0.1"},
  });
}

TEST(DecideTest, AddressesAreCanonical) {
  constexpr std::string_view kRules = R"("outgoing": {"default": "allow", "deny": ["127.0.0.1",
      "[::1]:80", "10.1.2.3", "[::ffff:10.9.0.0/112]"]})";
  Expect({
      {kRules, Outgoing("::ffff:10.1.2.3", 80), kDeny, "outgoing.deny 10.1.2.3"},
      {kRules, Outgoing("0.0.0.0", 80), kDeny, "outgoing.deny 127.0.0.1"},
      {kRules, Outgoing("::ffff:0.0.0.0", 80), kDeny, "outgoing.deny 127.0.0.1"},
      {kRules, Outgoing("::", 80), kDeny, "outgoing.deny [::1]:80"},
      {kRules, Outgoing("::", 81), kAllow, "outgoing.default allow"},
      {kRules, Outgoing("10.9.1.1", 80), kDeny, "outgoing.deny [::ffff:10.9.0.0/112]"},
      {kRules, Outgoing("64:ff9b::10.1.2.3", 80), kDeny, "outgoing.deny 10.1.2.3"},
      {kRules, Outgoing("64:ff9b:1::10.1.2.3", 80), kDeny, "outgoing.deny 10.1.2.3"},
      {kRules, Outgoing("2002:a01:203::1", 80), kDeny, "outgoing.deny 10.1.2.3"},
      {kRules, Outgoing("64:ff9b::0.0.0.0", 80), kDeny, "outgoing.deny 127.0.0.1"},
      {kRules, Outgoing("64:ff9b::10.1.2.4", 80), kAllow, "outgoing.default allow"},
  });
}

TEST(DecideTest, ACarrierNeedsBothAllowed) {
  Expect({
      {R"("outgoing": {"allow": ["10.0.0.0/8"]})", Outgoing("64:ff9b::10.1.2.3", 80), kDeny,
       "outgoing.default deny"},
      {R"("outgoing": {"allow": ["[64:ff9b::/96]"]})", Outgoing("64:ff9b::10.1.2.3", 80), kDeny,
       "outgoing.default deny"},
      {R"("outgoing": {"allow": ["[64:ff9b::/96]", "10.0.0.0/8"]})",
       Outgoing("64:ff9b::10.1.2.3", 80), kAllow, "outgoing.allow [64:ff9b::/96]"},
      {R"("outgoing": {"allow": ["*"]})", Outgoing("64:ff9b::10.1.2.3", 80), kAllow,
       "outgoing.allow *"},
  });
}

TEST(DecideTest, WildcardHosts) {
  Expect({
      {R"("outgoing": {"allow": ["*:443"]})", Outgoing("8.8.8.8", 443), kAllow,
       "outgoing.allow *:443"},
      {R"("outgoing": {"allow": ["*:443"]})", Outgoing("2001:db8::1", 443), kAllow,
       "outgoing.allow *:443"},
      {R"("outgoing": {"allow": ["0.0.0.0/0"]})", Outgoing("2001:db8::1", 443), kDeny,
       "outgoing.default deny"},
      {R"("outgoing": {"allow": ["[::/0]"]})", Outgoing("8.8.8.8", 443), kDeny,
       "outgoing.default deny"},
      {R"("outgoing": {"allow": ["[::/0]"]})", Outgoing("2001:db8::1", 443), kAllow,
       "outgoing.allow [::/0]"},
  });
}

TEST(DecideTest, MulticastAndBroadcastAreAddressesLikeOthers) {
  Expect({
      {"", Outgoing("224.0.0.251", 5353, Transport::kUdp), kDeny, "outgoing.default deny"},
      {"", Outgoing("255.255.255.255", 67, Transport::kUdp), kDeny, "outgoing.default deny"},
      {"", Outgoing("ff02::fb", 5353, Transport::kUdp), kDeny, "outgoing.default deny"},
      {R"("outgoing": {"allow": ["224.0.0.0/4"]})", Outgoing("224.0.0.251", 5353, Transport::kUdp),
       kAllow, "outgoing.allow 224.0.0.0/4"},
  });
}

TEST(DecideTest, TheProxyIsReachable) {
  constexpr std::string_view kProxy = R"("proxy": "tor")";
  Expect({
      {kProxy, Outgoing("10.88.0.1", 9050), kAllow, "proxy"},
      {"", Outgoing("10.88.0.1", 9050), kDeny, "outgoing.default deny"},
      {kProxy, Outgoing("10.88.0.1", 9051), kDeny, "outgoing.default deny"},
      {kProxy, Outgoing("10.88.0.1", 9050, Transport::kUdp), kDeny, "outgoing.default deny"},
      {R"("proxy": "tor", "outgoing": {"deny": ["10.0.0.0/8", "10.88.0.1"]})",
       Outgoing("10.88.0.1", 9050), kAllow, "proxy"},
      {R"("proxy": "tor", "outgoing": {"deny": ["10.88.0.1:9000-9100"]})",
       Outgoing("10.88.0.1", 9050), kAllow, "proxy"},
  });
}

TEST(DecideTest, Dns) {
  constexpr std::string_view kLoopback = R"("outgoing": {"allow": ["127.0.0.0/8"]})";
  constexpr std::string_view kNamed =
      R"("outgoing": {"allow": ["127.0.0.0/8", "0.0.0.0/0:53"], "deny": ["10.0.0.0/8"]})";
  Expect({
      {kLoopback, Outgoing("127.0.0.11", 53, Transport::kUdp), kDeny, "dns deny"},
      {kLoopback, Outgoing("127.0.0.11", 53), kDeny, "dns deny"},
      {kLoopback, Outgoing("127.0.0.11", 53, Transport::kOther), kDeny, "dns deny"},
      // Docker's resolver also listens on a port that it chooses.
      {kLoopback, Outgoing("127.0.0.11", 54, Transport::kUdp), kDeny, "dns deny"},
      {kLoopback, Outgoing("127.0.0.11", 40000), kDeny, "dns deny"},
      {kLoopback, Outgoing("127.0.0.12", 40000), kAllow, "outgoing.allow 127.0.0.0/8"},
      {R"("outgoing": {"allow": ["127.0.0.11"]})", Outgoing("127.0.0.11", 54), kAllow,
       "outgoing.allow 127.0.0.11"},
      {R"("outgoing": {"allow": ["127.0.0.11"]})", Outgoing("127.0.0.11", 53), kDeny, "dns deny"},
      {R"("outgoing": {"default": "allow"})", Outgoing("127.0.0.11", 54), kAllow,
       "outgoing.default allow"},
      {R"("dns": "allow", "outgoing": {"allow": ["127.0.0.0/8"]})",
       Outgoing("127.0.0.11", 53, Transport::kUdp), kAllow, "outgoing.allow 127.0.0.0/8"},
      {R"("dns": "allow")", Outgoing("8.8.8.8", 53, Transport::kUdp), kAllow, "dns allow"},
      {R"("dns": "allow", "outgoing": {"deny": ["8.8.8.8"]})",
       Outgoing("8.8.8.8", 53, Transport::kUdp), kDeny, "outgoing.deny 8.8.8.8"},
      // Only a rule that names 53 opens it; a range that happens to hold it does not.
      {kNamed, Outgoing("127.0.0.11", 53, Transport::kUdp), kAllow, "outgoing.allow 0.0.0.0/0:53"},
      {kNamed, Outgoing("10.0.0.1", 53, Transport::kUdp), kDeny, "outgoing.deny 10.0.0.0/8"},
      {kNamed, Outgoing("fd00::1", 53, Transport::kUdp), kDeny, "dns deny"},
      {R"("outgoing": {"allow": ["*:1-1024"]})", Outgoing("8.8.8.8", 53, Transport::kUdp), kDeny,
       "dns deny"},
      {R"("outgoing": {"allow": ["*:53,80-90"]})", Outgoing("8.8.8.8", 53, Transport::kUdp), kAllow,
       "outgoing.allow *:53,80-90"},
      // Without "dns", a policy that allows by default leaves port 53 alone.
      {R"("outgoing": {"default": "allow"})", Outgoing("8.8.8.8", 53, Transport::kUdp), kAllow,
       "outgoing.default allow"},
      {R"("dns": "deny", "outgoing": {"default": "allow"})",
       Outgoing("8.8.8.8", 53, Transport::kUdp), kDeny, "dns deny"},
      {R"("dns": "deny", "outgoing": {"default": "allow", "allow": ["8.8.8.8"]})",
       Outgoing("8.8.8.8", 53, Transport::kUdp), kDeny, "dns deny"},
      {R"("dns": "deny", "outgoing": {"default": "allow", "allow": ["8.8.8.8:53/udp"]})",
       Outgoing("8.8.8.8", 53, Transport::kUdp), kAllow, "outgoing.allow 8.8.8.8:53/udp"},
      {R"("dns": "deny", "outgoing": {"default": "allow", "allow": ["8.8.8.8:53/udp"]})",
       Outgoing("8.8.8.8", 53), kDeny, "dns deny"},
  });
}

TEST(DecideTest, OtherTransportsHaveNoPorts) {
  Expect({
      {R"("outgoing": {"allow": ["10.0.0.1:443"]})", Outgoing("10.0.0.1", 443, Transport::kOther),
       kDeny, "outgoing.default deny"},
      {R"("outgoing": {"allow": ["10.0.0.1/udp"]})", Outgoing("10.0.0.1", 0, Transport::kOther),
       kDeny, "outgoing.default deny"},
      {R"("outgoing": {"allow": ["10.0.0.1"]})", Outgoing("10.0.0.1", 0, Transport::kOther), kAllow,
       "outgoing.allow 10.0.0.1"},
  });
}

TEST(DecideTest, IncomingByLocalAddress) {
  constexpr std::string_view kRules =
      R"("incoming": {"allow": ["0.0.0.0:8080/tcp", "10.0.0.1:22", "127.0.0.0/8"],
                      "deny": ["127.0.0.1:6379"]})";
  Expect({
      {kRules, Local(Operation::kBind, "0.0.0.0", 8080), kAllow, "incoming.allow 0.0.0.0:8080/tcp"},
      {kRules, Local(Operation::kBind, "::", 8080), kAllow, "incoming.allow 0.0.0.0:8080/tcp"},
      {kRules, Local(Operation::kBind, "10.0.0.7", 8080), kAllow,
       "incoming.allow 0.0.0.0:8080/tcp"},
      {kRules, Local(Operation::kListen, "fd00::1", 8080), kAllow,
       "incoming.allow 0.0.0.0:8080/tcp"},
      {kRules, Local(Operation::kBind, "0.0.0.0", 8080, Transport::kUdp), kDeny,
       "incoming.default deny"},
      {kRules, Local(Operation::kBind, "10.0.0.1", 22), kAllow, "incoming.allow 10.0.0.1:22"},
      // The wildcard address is not loopback, nor any other single address.
      {kRules, Local(Operation::kBind, "0.0.0.0", 22), kDeny, "incoming.default deny"},
      {kRules, Local(Operation::kBind, "0.0.0.0", 80), kDeny, "incoming.default deny"},
      {kRules, Local(Operation::kBind, "127.0.0.1", 80), kAllow, "incoming.allow 127.0.0.0/8"},
      {kRules, Local(Operation::kBind, "127.0.0.1", 6379), kDeny, "incoming.deny 127.0.0.1:6379"},
      {kRules, Local(Operation::kBind, "0.0.0.0", 0), kAllow, "incoming ephemeral"},
      {kRules, Local(Operation::kBind, "0.0.0.0", 0, Transport::kUdp), kAllow,
       "incoming ephemeral"},
      {kRules, Local(Operation::kListen, "0.0.0.0", 0), kDeny, "incoming.default deny"},
      {R"("incoming": {"allow": ["0.0.0.0/0:80"]})", Local(Operation::kBind, "::", 80), kDeny,
       "incoming.default deny"},
      {R"("incoming": {"allow": ["0.0.0.0/0:80"]})", Local(Operation::kBind, "0.0.0.0", 80), kAllow,
       "incoming.allow 0.0.0.0/0:80"},
  });
}

TEST(DecideTest, AUdpWildcardSocketWouldReceiveWhatIsDenied) {
  constexpr std::string_view kRules =
      R"("incoming": {"default": "allow", "deny": ["10.0.0.1:53", "[fd00::1]:54/udp"]})";
  Expect({
      {kRules, Local(Operation::kBind, "0.0.0.0", 53, Transport::kUdp), kDeny,
       "incoming.deny 10.0.0.1:53"},
      {kRules, Local(Operation::kBind, "::", 53, Transport::kUdp), kDeny,
       "incoming.deny 10.0.0.1:53"},
      {kRules, Local(Operation::kBind, "::", 54, Transport::kUdp), kDeny,
       "incoming.deny [fd00::1]:54/udp"},
      {kRules, Local(Operation::kBind, "0.0.0.0", 54, Transport::kUdp), kAllow,
       "incoming.default allow"},
      // tcp is looked at again when it accepts.
      {kRules, Local(Operation::kBind, "0.0.0.0", 53), kAllow, "incoming.default allow"},
      {kRules, Accept("10.0.0.1", 53, "10.9.9.9"), kDeny, "incoming.deny 10.0.0.1:53"},
      {kRules, Accept("10.0.0.2", 53, "10.9.9.9"), kAllow, "incoming.default allow"},
  });
}

TEST(DecideTest, IncomingByPeer) {
  constexpr std::string_view kRules =
      R"("incoming": {"allow": ["0.0.0.0:8080/tcp from 10.0.0.0/8", "*:9000 from [fd00::/8]",
                                "*:7000"],
                      "deny": ["* from 10.6.6.6", "*:7000 from 10.7.0.0/16"]})";
  Expect({
      {kRules, Accept("1.2.3.4", 8080, "10.1.1.1"), kAllow,
       "incoming.allow 0.0.0.0:8080/tcp from 10.0.0.0/8"},
      {kRules, Accept("1.2.3.4", 8080, "10.6.6.6"), kDeny, "incoming.deny * from 10.6.6.6"},
      {kRules, Accept("1.2.3.4", 8080, "11.1.1.1"), kDeny, "incoming.default deny"},
      {kRules, Accept("1.2.3.4", 8081, "10.1.1.1"), kDeny, "incoming.default deny"},
      {kRules, Accept("::1", 9000, "fd12::1"), kAllow, "incoming.allow *:9000 from [fd00::/8]"},
      {kRules, Accept("1.2.3.4", 7000, "8.8.8.8"), kAllow, "incoming.allow *:7000"},
      {kRules, Accept("1.2.3.4", 7000, "10.1.1.1"), kAllow, "incoming.allow *:7000"},
      {kRules, Accept("1.2.3.4", 7000, "10.7.1.1"), kDeny, "incoming.deny *:7000 from 10.7.0.0/16"},
      // Who may connect is no matter of bind and listen.
      {kRules, Local(Operation::kListen, "0.0.0.0", 8080), kAllow,
       "incoming.allow 0.0.0.0:8080/tcp from 10.0.0.0/8"},
      {kRules, Local(Operation::kListen, "0.0.0.0", 7000), kAllow, "incoming.allow *:7000"},
      // A rule with "from" is about tcp.
      {kRules, Local(Operation::kBind, "0.0.0.0", 9000, Transport::kUdp), kDeny,
       "incoming.default deny"},
  });
}

TEST(DecideTest, Unix) {
  const auto decide = [](std::string_view members, std::string_view name,
                         Operation operation = Operation::kConnect) {
    const auto set = MustParse(OnePolicy(members));
    const Decision decision = set->Find("p")->Decide(UnixRequest{operation, name});
    return (decision.verdict == kAllow ? "allow: " : "deny: ") + std::string(decision.rule);
  };
  EXPECT_EQ(decide("", "/run/x"), "allow: unix.default allow");
  EXPECT_EQ(decide(R"("unix": {"default": "deny"})", "/run/x"), "deny: unix.default deny");
  EXPECT_EQ(decide(R"("unix": {"default": "deny"})", ""), "deny: unix.default deny");
  EXPECT_EQ(decide(R"("unix": {"default": "deny"})", "/run/x", Operation::kBind),
            "allow: unix local");
  constexpr std::string_view kRules =
      R"("unix": {"deny": ["/run/docker.sock", "@*", "/run/app/**"],
                  "allow": ["@good", "/run/app/*.sock", "/run/app/deep/**"]})";
  EXPECT_EQ(decide(kRules, "/run/docker.sock"), "deny: unix.deny /run/docker.sock");
  EXPECT_EQ(decide(kRules, "/run/docker.socket"), "allow: unix.default allow");
  EXPECT_EQ(decide(kRules, "@x/y"), "deny: unix.deny @*");
  EXPECT_EQ(decide(kRules, "@"), "deny: unix.deny @*");
  EXPECT_EQ(decide(kRules, "@good"), "allow: unix.allow @good");
  EXPECT_EQ(decide(kRules, "/run/app/a.sock"), "allow: unix.allow /run/app/*.sock");
  EXPECT_EQ(decide(kRules, "/run/app/a/b.sock"), "deny: unix.deny /run/app/**");
  EXPECT_EQ(decide(kRules, "/run/app/deep/b"), "allow: unix.allow /run/app/deep/**");
  EXPECT_EQ(decide(R"("unix": {"allow": ["/a"], "deny": ["/a"]})", "/a"), "deny: unix.deny /a");
}

TEST(DecideTest, UnixUnderSeveralNames) {
  const auto decide = [](std::string_view members, std::string_view name,
                         std::vector<std::string> aliases, bool more_names = false) {
    const auto set = MustParse(OnePolicy(members));
    const Decision decision = set->Find("p")->Decide(UnixRequest{.operation = Operation::kConnect,
                                                                 .name = name,
                                                                 .aliases = aliases,
                                                                 .more_names = more_names});
    return (decision.verdict == kAllow ? "allow: " : "deny: ") + std::string(decision.rule);
  };
  constexpr std::string_view kDenyOne = R"("unix": {"deny": ["/run/docker.sock"]})";
  constexpr std::string_view kDenyMany = R"("unix": {"deny": ["/run/s/*"], "allow": ["/run/s/a"]})";
  constexpr std::string_view kAllowOne = R"("unix": {"default": "deny", "allow": ["/run/a"]})";
  // A denied name denies, whatever the others are.
  EXPECT_EQ(decide(kDenyOne, "/tmp/x", {"/y", "/run/docker.sock"}),
            "deny: unix.deny /run/docker.sock");
  EXPECT_EQ(decide(kDenyMany, "/run/s/a", {"/run/s/b"}), "deny: unix.deny /run/s/*");
  EXPECT_EQ(decide(kDenyMany, "/tmp/x", {"/run/s/a"}), "allow: unix.default allow");
  // An allowed one allows only where it is the name itself; the default is about that name alone.
  EXPECT_EQ(decide(kAllowOne, "/run/b", {"/run/a"}), "deny: unix.default deny");
  EXPECT_EQ(decide(kAllowOne, "", {"/run/a"}), "deny: unix.default deny");
  EXPECT_EQ(decide(kAllowOne, "/run/a", {"/var/b"}), "allow: unix.allow /run/a");
  // Names that nobody knows are denied where a pattern or the default could mean them.
  EXPECT_EQ(decide(kDenyOne, "/tmp/x", {}, true), "allow: unix.default allow");
  EXPECT_EQ(decide(kDenyMany, "/tmp/x", {}, true), "deny: unix hard link");
  EXPECT_EQ(decide(kAllowOne, "/run/a", {}, true), "deny: unix hard link");
  EXPECT_EQ(decide("", "/run/a", {}, true), "allow: unix.default allow");
}

TEST(DecideTest, WhatIsGuarded) {
  struct Guards {
    std::string_view members;
    bool incoming;
    bool peers;
    bool unix_sockets;
  };
  for (const Guards& c : std::vector<Guards>{
           {"", false, false, false},
           {R"("incoming": {"default": "allow"}, "unix": {})", false, false, false},
           {R"("incoming": {"default": "allow", "allow": ["*:80 from 10.0.0.1"]})", false, false,
            false},
           {R"("incoming": {"default": "allow", "deny": ["*:80"]})", true, false, false},
           {R"("incoming": {"default": "allow", "deny": ["10.0.0.1:80"]})", true, true, false},
           {R"("incoming": {"default": "allow", "deny": ["*:80 from 10.0.0.1"]})", true, true,
            false},
           {R"("incoming": {"default": "deny"})", true, true, false},
           {R"("unix": {"deny": ["@*"]})", false, false, true},
           {R"("unix": {"default": "deny"})", false, false, true}}) {
    const auto set = MustParse(OnePolicy(c.members));
    const Policy* policy = set->Find("p");
    EXPECT_EQ(policy->guards_incoming(), c.incoming) << c.members;
    EXPECT_EQ(policy->guards_peers(), c.peers) << c.members;
    EXPECT_EQ(policy->guards_unix(), c.unix_sockets) << c.members;
  }
}

}  // namespace
}  // namespace oakum::policy
