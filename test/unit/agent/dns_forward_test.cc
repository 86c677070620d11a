// "dns": "allow": queries passed on to the server that was asked, the answers watched.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "agent/dns/tcp_client.h"
#include "test/unit/agent/dns_resolver_testing.h"

namespace oakum::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The servers of these tests are at loopback with any port, where no server of a file is trusted:
// what binds names is tested apart from what is passed on (DnsBinding).
class DnsForward : public ResolverTest {
 protected:
  DnsForward() {
    Use(policy::DnsRule::kAllow);
    context_.server = server_.endpoint();
  }

  LoopbackSocket server_{SOCK_DGRAM};
  const std::string query_ = QueryBytes(0x4242, "wWw.example.com", dns::kTypeA, 1232);
};

TEST_F(DnsForward, QueriesAndAnswersPassAsTheyAre) {
  Ask(query_);
  const Received received = ReceiveOn(server_.fd());
  EXPECT_EQ(received.query.substr(2), query_.substr(2));
  const std::string answer = Header(dns::ReadId(received.query), 0x8180, 1, 1) +
                             QuestionBytes("wWw.example.com", 1) +
                             RecordBytes("", dns::kTypeA, 60, IpBytes("192.0.2.1"));
  SendTo(server_.fd(), received.from, answer);
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(dns::ReadId(replies_[0].message), 0x4242);
  EXPECT_EQ(replies_[0].message.substr(2), answer.substr(2));
  EXPECT_EQ(replies_[0].name, "www.example.com");
  EXPECT_EQ(replies_[0].type, dns::kTypeA);
}

TEST_F(DnsForward, ALargeAnswerPassesWhole) {
  Ask(query_);
  const Received received = ReceiveOn(server_.fd());
  const std::string answer = Header(dns::ReadId(received.query), 0x8180, 1, 0, 0, 1) +
                             QuestionBytes("wWw.example.com", 1) +
                             RecordBytes("pad.example", 16, 60, std::string(6000, 'x'));
  SendTo(server_.fd(), received.from, answer);
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(replies_[0].message.substr(2), answer.substr(2));
}

TEST_F(DnsForward, EachQueryHasItsOwnIdAndPort) {
  const size_t count = 50;
  std::set<std::pair<uint16_t, uint16_t>> seen;
  size_t same_id = 0;
  for (size_t i = 0; i < count; ++i) {
    Ask(query_);
    const Received received = ReceiveOn(server_.fd());
    same_id += dns::ReadId(received.query) == 0x4242 ? 1 : 0;
    seen.emplace(dns::ReadId(received.query), received.from.sin_port);
  }
  EXPECT_EQ(seen.size(), count);
  EXPECT_LT(same_id, 3U);
  EXPECT_EQ(sockets_made_, count);
}

TEST_F(DnsForward, QueriesBeyondTheContainersSlotsAreNotPassedOn) {
  RelaySlots slots(0);
  const auto share = RelayShare::Create(slots);
  take_slot_ = [&] { return share->Take(); };
  Restart();
  for (size_t i = 0; i < RelaySlots::kAlways + 1; ++i) {
    Ask(query_);
  }
  EXPECT_EQ(sockets_made_, RelaySlots::kAlways);
  const Received received = ReceiveOn(server_.fd());
  SendTo(server_.fd(), received.from,
         Header(dns::ReadId(received.query), 0x8180, 1, 1) + QuestionBytes("wWw.example.com", 1) +
             RecordBytes("", dns::kTypeA, 60, IpBytes("192.0.2.1")));
  ASSERT_TRUE(AwaitReplies(1));
  Ask(query_);
  EXPECT_EQ(sockets_made_, RelaySlots::kAlways + 1);
  resolver_.reset();  // it has slots
}

TEST_F(DnsForward, ForgedAnswersAreIgnored) {
  Ask(query_);
  const Received received = ReceiveOn(server_.fd());
  const unsigned id = dns::ReadId(received.query);
  const auto answer = [&](unsigned with_id, std::string_view name, unsigned type,
                          std::string_view ip) {
    return Header(with_id, 0x8180, 1, 1) + QuestionBytes(name, type) +
           RecordBytes("", dns::kTypeA, 60, IpBytes(ip));
  };
  const std::string evil = "192.0.2.66";
  SendTo(server_.fd(), received.from, answer(id ^ 1, "www.example.com", 1, evil));
  SendTo(server_.fd(), received.from, answer(id, "www.example.org", 1, evil));
  SendTo(server_.fd(), received.from, answer(id, "www.example.com", 28, evil));
  SendTo(server_.fd(), received.from, "");
  SendTo(server_.fd(), received.from, "x");
  SendTo(server_.fd(), received.from, Header(id, 0x8180, 0));  // no question, no error
  SendTo(server_.fd(), received.from, Header(id, 0x0100, 1) + QuestionBytes("www.example.com", 1));
  const LoopbackSocket other(SOCK_DGRAM);  // another port is another source
  SendTo(other.fd(), received.from, answer(id, "www.example.com", 1, evil));
  ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(50)));
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(1)));
  }
  EXPECT_THAT(replies_, IsEmpty());
  SendTo(server_.fd(), received.from, answer(id, "www.example.com", 1, "192.0.2.1"));
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_THAT(Reply(0).addresses, ElementsAre(Ip("192.0.2.1")));
}

TEST(DnsAnswers, NamesAreComparedWithoutCaseAndNothingElse) {
  const std::string query = QueryBytes(1, "a.example", 65);
  EXPECT_TRUE(dns::Answers(AnswerBytes(QueryBytes(1, "A.Example", 65), {}), query));
  EXPECT_FALSE(dns::Answers(AnswerBytes(QueryBytes(1, "a.example", 65 + 32), {}), query));
  EXPECT_FALSE(dns::Answers(AnswerBytes(QueryBytes(1, "b.example", 65), {}), query));
}

TEST_F(DnsForward, AnErrorWithoutQuestionCounts) {
  Ask(query_);
  const Received received = ReceiveOn(server_.fd());
  SendTo(server_.fd(), received.from, Header(dns::ReadId(received.query), 0x8181, 0));
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(replies_[0].message, Header(0x4242, 0x8181, 0));
}

TEST_F(DnsForward, AServerThatIsNotThereFailsAtOnce) {
  context_.server = LoopbackSocket(SOCK_DGRAM).endpoint();
  Ask(query_);
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(replies_[0].message[3] & 0xf, 2);  // SERVFAIL: the next server's turn
  ASSERT_TRUE(replies_[0].failure);
  EXPECT_EQ(replies_[0].failure->errno_value, ECONNREFUSED);
  context_.make_socket = [](int, int) {
    errno = EMFILE;
    return UniqueFd();
  };
  Ask(query_);
  ASSERT_TRUE(AwaitReplies(2));
  EXPECT_EQ(replies_[1].failure->errno_value, EMFILE);
}

TEST_F(DnsForward, ASilentServerIsPassedOnAsSilence) {
  patience_ = std::chrono::milliseconds(30);
  Restart();
  Ask(query_);
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(replies_[0].message, "");
  const Received received = ReceiveOn(server_.fd());  // too late
  SendTo(server_.fd(), received.from,
         AnswerBytes(received.query.substr(0, received.query.size() - 11), {}));
  ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(20)));
  EXPECT_EQ(replies_.size(), 1U);
}

TEST_F(DnsForward, MoreThanItTakesIsNotAnswered) {
  for (size_t i = 0; i < Resolver::kMaxOutstanding + 10; ++i) {
    Ask(query_);
  }
  EXPECT_EQ(replies_.size(), 10U);
  EXPECT_EQ(replies_[0].message, "");
}

TEST_F(DnsForward, WhatIsNoQueryIsNotPassedOn) {
  Ask("garbage");
  Ask(Header(1, 0x8180, 1) + QuestionBytes("a.b", 1));
  Ask(Header(1, 0x0100, 2) + QuestionBytes("a.b", 1) + QuestionBytes("c.d", 1));
  Ask(QueryBytes(1, "a.b", 1) + std::string(dns::kMaxQuery, 'x'));
  ASSERT_EQ(replies_.size(), 4U);
  EXPECT_EQ(replies_[0].message, "");
  EXPECT_EQ(replies_[1].message, "");
  EXPECT_EQ(replies_[2].message[3] & 0xf, 1);
  EXPECT_EQ(replies_[3].message[3] & 0xf, 1);
  EXPECT_EQ(sockets_made_, 0U);
}

TEST_F(DnsForward, TcpGoesOverOneConnection) {
  const LoopbackSocket server(SOCK_STREAM);
  context_.server = server.endpoint();
  Ask(QueryBytes(7, "a.example", 1), DnsTransport::kTcp);
  Ask(QueryBytes(7, "b.example", 1), DnsTransport::kTcp);
  const UniqueFd peer = AcceptOn(server);
  const std::string first = ReadMessage(peer.get());
  const std::string second = ReadMessage(peer.get());
  EXPECT_NE(dns::ReadId(first), dns::ReadId(second));
  // In the other order, and a byte at a time.
  const std::string both = Framed(AnswerBytes(second, {})) + Framed(AnswerBytes(first, {}));
  for (const char byte : both) {
    WriteBytes(peer.get(), std::string(1, byte));
    ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(1)));
  }
  ASSERT_TRUE(AwaitReplies(2));
  EXPECT_EQ(dns::ReadId(replies_[0].message), 7);
  EXPECT_EQ(dns::ReadId(replies_[1].message), 7);
  EXPECT_EQ(sockets_made_, 1U);
}

TEST_F(DnsForward, ATcpServerThatIsNotThereClosesTheStream) {
  context_.server = server_.endpoint();  // nobody's port for TCP
  Ask(query_, DnsTransport::kTcp);
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(replies_[0].message, "");
  EXPECT_EQ(replies_[0].failure->errno_value, ECONNREFUSED);
}

// A network namespace in which Docker's resolver address answers: the one of loopback that is
// trusted, and port 53, which is what binds names.
class DnsBinding : public ResolverTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "needs root: a network namespace";
    }
    resolv_conf_ = ParseResolvConf("nameserver 127.0.0.11\n");
    Restart();
    std::thread([this] { MakeNetwork(); }).join();
    ASSERT_TRUE(network_ && server_);
    Use(policy::DnsRule::kAllow);
    context_.server = {.ip = Ip("127.0.0.11"), .port = 53};
    context_.make_socket = [this](int domain, int type) {
      UniqueFd made;
      std::thread maker([&] {
        if (setns(network_.get(), CLONE_NEWNET) == 0) {
          made.Reset(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        }
      });
      maker.join();
      return made;
    };
  }

  // Asks for www.example.com and answers with `records`.
  void Exchange(const std::vector<std::string>& records) {
    const size_t before = replies_.size();
    Ask(QueryBytes(5, "www.example.com", dns::kTypeA));
    const Received received = ReceiveOn(server_.get());
    SendTo(server_.get(), received.from, AnswerBytes(received.query, records));
    ASSERT_TRUE(AwaitReplies(before + 1));
    EXPECT_EQ(Reply(before).rcode, dns::Rcode::kNoError);
  }

  const std::string address_ = RecordBytes("", dns::kTypeA, 300, IpBytes("192.0.2.1"));

  UniqueFd server_;

 private:
  void MakeNetwork() {
    if (unshare(CLONE_NEWNET) != 0) {
      return;
    }
    const UniqueFd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq loopback = {};
    loopback.ifr_name[0] = 'l';
    loopback.ifr_name[1] = 'o';
    loopback.ifr_flags = IFF_UP;
    if (ioctl(control.get(), SIOCSIFFLAGS, &loopback) != 0) {
      return;
    }
    network_.Reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    server_.Reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(53);
    address.sin_addr.s_addr = htonl(0x7f00000b);
    if (bind(server_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      server_.Reset();
    }
  }

  UniqueFd network_;
};

TEST_F(DnsBinding, ATrustedServersAnswerBindsTheNameThatWasAsked) {
  Exchange({RecordBytes("", dns::kTypeCname, 60, Wire("cdn.example.net")),
            RecordBytes("cdn.example.net", dns::kTypeA, 300, IpBytes("192.0.2.1")),
            RecordBytes("bank.example", dns::kTypeA, 300, IpBytes("192.0.2.66"))});
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("www.example.com"));
  EXPECT_THAT(names_.Of(Ip("192.0.2.66")), IsEmpty());
}

TEST_F(DnsBinding, AddressesOfTheInsideAreNotBound) {
  Exchange({RecordBytes("", dns::kTypeA, 300, IpBytes("169.254.169.254")),
            RecordBytes("", dns::kTypeA, 300, IpBytes("127.0.0.1"))});
  EXPECT_THAT(names_.Of(Ip("169.254.169.254")), IsEmpty());
  EXPECT_THAT(names_.Of(Ip("127.0.0.1")), IsEmpty());
}

TEST_F(DnsBinding, AServerThatNobodyTrustsBindsNothing) {
  resolv_conf_ = ParseResolvConf("nameserver 192.0.2.53\n");
  Restart();
  Exchange({address_});
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), IsEmpty());
  settings_.resolvers = {Ip("127.0.0.11")};
  Exchange({address_});
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("www.example.com"));
}

// unshare(CLONE_NEWUSER | CLONE_NEWNET) makes a network in which the container is every server.
TEST_F(DnsBinding, ANetworkOfTheContainersOwnBindsNothing) {
  context_.own_network = false;
  Exchange({address_});
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), IsEmpty());
}

TEST_F(DnsBinding, AnErrorBindsNothing) {
  Ask(QueryBytes(5, "www.example.com", dns::kTypeA));
  const Received received = ReceiveOn(server_.get());
  SendTo(server_.get(), received.from, AnswerBytes(received.query, {address_}, 3));
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), IsEmpty());
}

}  // namespace
}  // namespace oakum::agent
