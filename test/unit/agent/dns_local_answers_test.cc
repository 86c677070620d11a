// What is answered without asking anybody, and resolv.conf(5).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/dns/host_name.h"
#include "agent/dns/local_answers.h"
#include "agent/dns/resolv_conf.h"
#include "test/unit/agent/dns_testing.h"

namespace oakum::agent::dns {
namespace {

using policy::Resolve;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DnsLocalAnswers : public ::testing::Test {
 protected:
  std::optional<std::string> Ask(std::string_view name, unsigned type,
                                 Resolve resolve = Resolve::kSynthetic) {
    return LocalAnswer(ReadQuery(QueryBytes(1, name, type)).value(), resolve, conf_, names_, 512);
  }
  Rcode RcodeOf(std::string_view name, unsigned type) {
    return ReadReply(Ask(name, type).value()).value().rcode;
  }
  std::vector<policy::IpAddress> AddressesOf(std::string_view name, unsigned type) {
    return ReadReply(Ask(name, type).value()).value().addresses;
  }

  ResolvConf conf_ = ParseResolvConf(
      "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\n"
      "options ndots:5\n");
  Names names_;
};

TEST_F(DnsLocalAnswers, AddressesStandForNames) {
  const auto v4 = AddressesOf("Www.Example.com", kTypeA);
  const auto v6 = AddressesOf("www.example.com", kTypeAaaa);
  ASSERT_EQ(v4.size(), 1U);
  ASSERT_EQ(v6.size(), 1U);
  EXPECT_TRUE(v4[0].IsV4());
  EXPECT_TRUE(Names::IsSynthetic(v4[0]));
  EXPECT_TRUE(Names::IsSynthetic(v6[0]));
  EXPECT_THAT(names_.Of(v4[0]), ElementsAre("www.example.com"));
  EXPECT_THAT(names_.Of(v6[0]), ElementsAre("www.example.com"));
  EXPECT_EQ(AddressesOf("www.example.com", kTypeA), v4);
  for (const auto& ip : {v4[0], v6[0]}) {
    const std::string answer = Ask(ReverseName(ip), kTypePtr).value();
    EXPECT_TRUE(answer.ends_with(Wire("www.example.com"))) << ip.ToString();
  }
}

TEST_F(DnsLocalAnswers, OtherTypesDoNotExist) {
  for (const unsigned type : {15U, 16U, 28U + 5U, 64U, 65U, 255U}) {
    const auto reply = ReadReply(Ask("example.com", type).value()).value();
    EXPECT_EQ(reply.rcode, Rcode::kNoError) << type;
    EXPECT_THAT(reply.addresses, IsEmpty());
  }
  EXPECT_EQ(RcodeOf("example.com", kTypeAxfr), Rcode::kRefused);
}

TEST_F(DnsLocalAnswers, LoopbackIsAnsweredHere) {
  for (const Resolve way : {Resolve::kSynthetic, Resolve::kTor, Resolve::kServer}) {
    const auto reply = ReadReply(Ask("a.LOCALHOST", kTypeA, way).value()).value();
    EXPECT_THAT(reply.addresses, ElementsAre(Ip("127.0.0.1")));
  }
  EXPECT_THAT(AddressesOf("localhost", kTypeAaaa), ElementsAre(Ip("::1")));
  EXPECT_THAT(AddressesOf("localhost.localdomain", kTypeA), ElementsAre(Ip("127.0.0.1")));
  EXPECT_NE(AddressesOf("notlocalhost", kTypeA).at(0), Ip("127.0.0.1"));
}

TEST_F(DnsLocalAnswers, SomeNamesDoNotExist) {
  EXPECT_EQ(RcodeOf("a.invalid", kTypeA), Rcode::kNxDomain);
  EXPECT_EQ(RcodeOf("use-application-dns.net", kTypeA), Rcode::kNxDomain);
  EXPECT_EQ(RcodeOf("1.2.0.192.in-addr.arpa", kTypePtr), Rcode::kNxDomain);
  EXPECT_EQ(RcodeOf("1.0.18.198.in-addr.arpa", kTypePtr), Rcode::kNxDomain);  // nobody's
  EXPECT_EQ(RcodeOf("company.local", kTypeA), Rcode::kNoError);
}

TEST_F(DnsLocalAnswers, TheRootHasNoRecords) {
  const auto query =
      ReadQuery(Header(1, 0x0100, 1) + std::string(1, '\0') + Bytes16(2) + Bytes16(1));
  for (const Resolve way : {Resolve::kSynthetic, Resolve::kTor}) {
    const auto answer = LocalAnswer(*query, way, conf_, names_, 512);
    EXPECT_EQ(ReadReply(answer.value())->rcode, Rcode::kNoError);
  }
}

// A proxy would connect to the address itself, past every rule about addresses.
TEST_F(DnsLocalAnswers, NoNameIsAnAddress) {
  for (const char* name :
       {"10.1.2.3", "127.1", "2130706433", "0x7f000001", "1.0x", "a.0x7f", "017"}) {
    for (const Resolve way : {Resolve::kSynthetic, Resolve::kTor, Resolve::kServer}) {
      const auto answer = Ask(name, kTypeA, way);
      ASSERT_TRUE(answer) << name;
      EXPECT_EQ(ReadReply(*answer).value().rcode, Rcode::kNxDomain) << name;
    }
  }
  EXPECT_EQ(RcodeOf("1.example", kTypeA), Rcode::kNoError);
  EXPECT_EQ(RcodeOf("0xa.example", kTypeA), Rcode::kNoError);
  EXPECT_EQ(RcodeOf("face", kTypeA), Rcode::kNoError);
}

TEST_F(DnsLocalAnswers, SearchListsEndAtTheNameItself) {
  EXPECT_EQ(RcodeOf("www.example.com.ns.svc.cluster.local", kTypeA), Rcode::kNxDomain);
  EXPECT_EQ(RcodeOf("www.example.com.cluster.local", kTypeA), Rcode::kNxDomain);
  EXPECT_EQ(RcodeOf("www.example.com", kTypeA), Rcode::kNoError);
  EXPECT_EQ(RcodeOf("web.ns.svc.cluster.local", kTypeA), Rcode::kNxDomain);  // of "cluster.local"
  EXPECT_FALSE(IsSearched("web.cluster.local", conf_));
  EXPECT_FALSE(IsSearched("a.b.c.d.e.f.cluster.local", conf_));  // asked as it is, first
  EXPECT_FALSE(IsSearched("cluster.local", conf_));
  EXPECT_FALSE(IsSearched("a.b.mycluster.local", conf_));
  conf_.ndots = 1;
  EXPECT_EQ(RcodeOf("www.example.com.ns.svc.cluster.local", kTypeA), Rcode::kNoError);
}

TEST_F(DnsLocalAnswers, OnionsAreTorsAlone) {
  EXPECT_THAT(ReadReply(Ask("x.onion", kTypeA, Resolve::kTor).value())->addresses.size(), 1U);
  EXPECT_EQ(ReadReply(Ask("x.onion", kTypeA, Resolve::kServer).value())->rcode, Rcode::kNxDomain);
  EXPECT_FALSE(Ask("x.example", kTypeA, Resolve::kTor));
  EXPECT_FALSE(Ask("x.example", kTypeA, Resolve::kServer));
}

TEST(ResolvConf, IsRead) {
  const ResolvConf conf = ParseResolvConf(
      "# nameserver 9.9.9.9\n; x\n nameserver 192.0.2.1 # first\nnameserver fe80::1%eth0\n"
      "nameserver bogus\ndomain one.example\nsearch Two.Example. three.example bad..name\n"
      "options rotate ndots:3 timeout:1\noptions ndots:x\nnameserver\t::1");
  EXPECT_THAT(conf.nameservers, ElementsAre(Ip("192.0.2.1"), Ip("fe80::1"), Ip("::1")));
  EXPECT_THAT(conf.search, ElementsAre("two.example", "three.example"));
  EXPECT_EQ(conf.ndots, 3);
  EXPECT_THAT(TrustedServers(conf), ElementsAre(Ip("192.0.2.1"), Ip("fe80::1")));
}

TEST(ResolvConf, HasDefaultsAndBounds) {
  EXPECT_THAT(ParseResolvConf("").nameservers, ElementsAre(Ip("127.0.0.1")));
  EXPECT_THAT(TrustedServers(ParseResolvConf("")), IsEmpty());
  EXPECT_THAT(TrustedServers(ParseResolvConf("nameserver 127.0.0.11")),
              ElementsAre(Ip("127.0.0.11")));
  EXPECT_EQ(ParseResolvConf("options ndots:99999999999999").ndots, 15);
  std::string many;
  for (int i = 0; i < 1000; ++i) {
    many += "nameserver 192.0.2.1\n";
  }
  EXPECT_EQ(ParseResolvConf(many).nameservers.size(), kMaxNameservers);
  EXPECT_THAT(ParseResolvConf(std::string(kMaxResolvConf, '\n') + "search late.example").search,
              IsEmpty());
}

}  // namespace
}  // namespace oakum::agent::dns
