// "dns": "proxy": what the agent answers itself, by Tor's RESOLVE, and by a server through a proxy.
#include <fcntl.h>
#include <gmock/gmock.h>

#include "test/unit/agent/dns_resolver_testing.h"
#include "test/unit/agent/proxy/scripted_proxy.h"

namespace oakum::agent {
namespace {

using policy::DnsRule;
using policy::Resolve;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DnsSynthetic : public ResolverTest {
 protected:
  DnsSynthetic() { Use(DnsRule::kProxy); }
};

TEST_F(DnsSynthetic, IsAnsweredAtOnce) {
  Ask(QueryBytes(1, "Example.com", dns::kTypeA));
  Ask(QueryBytes(2, "example.com", dns::kTypeAaaa), DnsTransport::kTcp);
  Ask(QueryBytes(3, "example.com", 65));
  Ask("garbage");
  ASSERT_EQ(replies_.size(), 4U);
  EXPECT_THAT(names_.Of(Reply(0).addresses.at(0)), ElementsAre("example.com"));
  EXPECT_THAT(names_.Of(Reply(1).addresses.at(0)), ElementsAre("example.com"));
  EXPECT_EQ(replies_[0].name, "example.com");
  EXPECT_EQ(Reply(2).rcode, dns::Rcode::kNoError);
  EXPECT_EQ(replies_[3].message, "");
  EXPECT_THAT(dials_, IsEmpty());
  EXPECT_EQ(sockets_made_, 0U);
}

class DnsTor : public ResolverTest {
 protected:
  DnsTor() { Use(DnsRule::kProxy, Resolve::kTor); }

  void Found(FakeDial& dial, std::string_view ip) {
    DialResult result;
    result.stream.bound.ip = Ip(ip);
    Finish(dial, std::move(result));
  }
  void Failed(FakeDial& dial, int error, bool destination) {
    DialResult result;
    result.failure = {.errno_value = error, .text = "tor: failed", .destination = destination};
    Finish(dial, std::move(result));
  }
  static void Finish(FakeDial& dial, DialResult result) {
    const auto done = std::move(dial.done);
    done(std::move(result));
  }
};

TEST_F(DnsTor, ANameIsResolvedOnceForBothFamilies) {
  Ask(QueryBytes(1, "www.example.com", dns::kTypeA));
  Ask(QueryBytes(2, "www.Example.com", dns::kTypeAaaa));
  ASSERT_EQ(dials_.size(), 1U);
  FakeDial& dial = dials_.front();
  EXPECT_EQ(dial.request.command, ProxyCommand::kResolve);
  EXPECT_EQ(dial.request.target.name, "www.example.com");
  EXPECT_EQ(dial.request.proxy, &proxy_);
  EXPECT_EQ(dial.request.credentials->password, "www.example.com0");
  Found(dial, "192.0.2.1");
  ASSERT_EQ(replies_.size(), 2U);
  EXPECT_THAT(Reply(0).addresses, ElementsAre(Ip("192.0.2.1")));
  EXPECT_EQ(dns::ReadId(replies_[1].message), 2);
  EXPECT_EQ(Reply(1).rcode, dns::Rcode::kNoError);
  EXPECT_THAT(Reply(1).addresses, IsEmpty());
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("www.example.com"));
  EXPECT_TRUE(dial.given_up);
  Ask(QueryBytes(3, "www.example.com", dns::kTypeA));  // remembered
  EXPECT_EQ(dials_.size(), 1U);
  EXPECT_EQ(replies_.size(), 3U);
}

TEST_F(DnsTor, FailuresHaveTheirOwnAnswers) {
  const struct {
    int error;
    bool destination;
    dns::Rcode rcode;
    bool told;
  } cases[] = {{EHOSTUNREACH, true, dns::Rcode::kNxDomain, false},
               {EHOSTUNREACH, false, dns::Rcode::kServFail, true},
               {ECONNREFUSED, false, dns::Rcode::kServFail, true},
               {ETIMEDOUT, true, dns::Rcode::kServFail, true}};
  for (size_t i = 0; i < std::size(cases); ++i) {
    Ask(QueryBytes(1, "host" + std::to_string(i) + ".example", dns::kTypeA));
    Failed(dials_.back(), cases[i].error, cases[i].destination);
    ASSERT_EQ(replies_.size(), i + 1);
    EXPECT_EQ(replies_[i].message[3] & 0xf, static_cast<int>(cases[i].rcode)) << i;
    EXPECT_EQ(replies_[i].failure.has_value(), cases[i].told) << i;
  }
  // A proxy that failed is asked again.
  Ask(QueryBytes(1, "host2.example", dns::kTypeA));
  EXPECT_EQ(dials_.size(), std::size(cases) + 1);
}

TEST_F(DnsTor, AddressesAreResolvedToo) {
  Ask(QueryBytes(1, "1.2.0.192.in-addr.arpa", dns::kTypePtr));
  ASSERT_EQ(dials_.size(), 1U);
  EXPECT_EQ(dials_.front().request.command, ProxyCommand::kResolvePtr);
  EXPECT_EQ(dials_.front().request.target.address.ip, Ip("192.0.2.1"));
  DialResult result;
  result.stream.resolved_name = "Host.Example.com";
  Finish(dials_.front(), std::move(result));
  ASSERT_EQ(replies_.size(), 1U);
  EXPECT_TRUE(replies_[0].message.ends_with(Wire("host.example.com")));
}

TEST_F(DnsTor, OtherTypesAndNamesAreAnsweredHere) {
  Ask(QueryBytes(1, "www.example.com", 16));
  Ask(QueryBytes(1, "x.in-addr.arpa", dns::kTypePtr));
  Ask(QueryBytes(1, "10.1.2.3", dns::kTypeA));
  Ask(QueryBytes(1, "x.onion", dns::kTypeA));
  ASSERT_EQ(replies_.size(), 4U);
  EXPECT_EQ(Reply(0).rcode, dns::Rcode::kNoError);
  EXPECT_EQ(Reply(1).rcode, dns::Rcode::kNxDomain);
  EXPECT_EQ(Reply(2).rcode, dns::Rcode::kNxDomain);
  EXPECT_THAT(names_.Of(Reply(3).addresses.at(0)), ElementsAre("x.onion"));
  EXPECT_THAT(dials_, IsEmpty());
}

TEST_F(DnsTor, ALookUpGoesOnWhenTheProgramHasGivenUp) {
  patience_ = std::chrono::milliseconds(20);
  Restart();
  Ask(QueryBytes(1, "slow.example", dns::kTypeA));
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_EQ(Reply(0).rcode, dns::Rcode::kServFail);
  EXPECT_FALSE(dials_.front().given_up);
  Ask(QueryBytes(2, "slow.example", dns::kTypeA));
  EXPECT_EQ(dials_.size(), 1U);
  Found(dials_.front(), "192.0.2.1");
  ASSERT_EQ(replies_.size(), 2U);
  EXPECT_THAT(Reply(1).addresses, ElementsAre(Ip("192.0.2.1")));
}

TEST_F(DnsTor, AProxyThatHangsHoldsBoundedConnections) {
  for (int i = 0; i < 500; ++i) {
    Ask(QueryBytes(1, "host" + std::to_string(i) + ".example", dns::kTypeA));
  }
  EXPECT_EQ(dials_.size(), 500U);
  EXPECT_EQ(std::ranges::count(dials_, false, &FakeDial::given_up), 128);
  EXPECT_TRUE(dials_.front().given_up);
  EXPECT_FALSE(dials_.back().given_up);
}

TEST_F(DnsTor, ProcessesAreKeptApartWhereThePolicySaysSo) {
  proxy_.isolate = policy::Isolation::kProcess;
  context_.tgid = 1;
  Ask(QueryBytes(1, "www.example.com", dns::kTypeA));
  context_.tgid = 2;
  Ask(QueryBytes(1, "www.example.com", dns::kTypeA));
  EXPECT_EQ(dials_.size(), 2U);
}

// A policy that was loaded anew may lie where the old one lay.
TEST_F(DnsTor, ResultsGoWithThePolicy) {
  context_.keep = std::make_shared<int>();
  Ask(QueryBytes(1, "a.example", dns::kTypeA));
  Found(dials_.back(), "192.0.2.1");
  Ask(QueryBytes(1, "a.example", dns::kTypeA));
  EXPECT_EQ(dials_.size(), 1U);
  context_.keep = std::make_shared<int>();
  Ask(QueryBytes(1, "a.example", dns::kTypeA));
  EXPECT_EQ(dials_.size(), 2U);
}

// A container that makes a network of its own is the proxy there (context.proxy_socket).
TEST_F(DnsTor, AProxyInANetworkOfTheContainersOwnBindsNothing) {
  context_.proxy_socket = [](int) { return UniqueFd(); };
  context_.network = 1;
  Ask(QueryBytes(1, "a.example", dns::kTypeA));
  Found(dials_.back(), "192.0.2.1");
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("a.example"));
  context_.own_network = false;
  context_.network = 2;
  Ask(QueryBytes(1, "a.example", dns::kTypeA));  // not from the other network's result
  ASSERT_EQ(dials_.size(), 2U);
  Found(dials_.back(), "192.0.2.2");
  EXPECT_THAT(names_.Of(Ip("192.0.2.2")), IsEmpty());
}

class DnsServer : public ResolverTest {
 protected:
  DnsServer() {
    Use(DnsRule::kProxy, Resolve::kServer);
    settings_.server = policy::Endpoint{.ip = Ip("192.0.2.9"), .port = 53};
  }

  // Completes a dial; returns the server's end.
  UniqueFd Connected(FakeDial& dial) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    EXPECT_EQ(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    DialResult result;
    result.stream.fd.Reset(pair[0]);
    const auto done = std::move(dial.done);
    done(std::move(result));
    return UniqueFd(pair[1]);
  }
};

TEST_F(DnsServer, OneConnectionServesManyQueries) {
  Ask(QueryBytes(7, "a.example", dns::kTypeA));
  Ask(QueryBytes(7, "b.example", dns::kTypeA));
  ASSERT_EQ(dials_.size(), 1U);
  EXPECT_EQ(dials_.front().request.command, ProxyCommand::kConnect);
  EXPECT_EQ(dials_.front().request.target.address, *settings_.server);
  const UniqueFd server = Connected(dials_.front());
  std::string first = ReadMessage(server.get());
  std::string second = ReadMessage(server.get());
  if (dns::ReadQuery(first)->name != "a.example") {
    std::swap(first, second);
  }
  const auto answer = [](std::string_view query, std::string_view ip) {
    return Framed(AnswerBytes(query, {RecordBytes("", dns::kTypeA, 300, IpBytes(ip))}));
  };
  WriteBytes(server.get(), answer(second, "192.0.2.2") + answer(first, "192.0.2.1"));
  ASSERT_TRUE(AwaitReplies(2));
  EXPECT_THAT(Reply(0).addresses, ElementsAre(Ip("192.0.2.2")));
  EXPECT_EQ(replies_[0].name, "b.example");
  EXPECT_EQ(dns::ReadId(replies_[1].message), 7);
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("a.example"));
  Ask(QueryBytes(8, "c.example", dns::kTypeA));
  EXPECT_EQ(dns::ReadQuery(ReadMessage(server.get()))->name, "c.example");
  EXPECT_EQ(dials_.size(), 1U);
}

TEST_F(DnsServer, ALongAnswerIsCutForADatagramOnly) {
  std::vector<std::string> records(100, RecordBytes("", dns::kTypeA, 300, IpBytes("192.0.2.1")));
  Ask(QueryBytes(7, "a.example", dns::kTypeA));
  const UniqueFd server = Connected(dials_.front());
  WriteBytes(server.get(), Framed(AnswerBytes(ReadMessage(server.get()), records)));
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_TRUE(Reply(0).truncated);
  EXPECT_LE(replies_[0].message.size(), 512U);
  Ask(QueryBytes(7, "a.example", dns::kTypeA), DnsTransport::kTcp);
  WriteBytes(server.get(), Framed(AnswerBytes(ReadMessage(server.get()), records)));
  ASSERT_TRUE(AwaitReplies(2));
  EXPECT_EQ(Reply(1).addresses.size(), 100U);
}

TEST_F(DnsServer, AnIdleConnectionThatTheServerClosedIsReplaced) {
  Ask(QueryBytes(7, "a.example", dns::kTypeA));
  {
    const UniqueFd server = Connected(dials_.back());
    WriteBytes(server.get(), Framed(AnswerBytes(ReadMessage(server.get()), {})));
    ASSERT_TRUE(AwaitReplies(1));
    Ask(QueryBytes(7, "b.example", dns::kTypeA));
    EXPECT_EQ(dns::ReadQuery(ReadMessage(server.get()))->name, "b.example");
  }
  ASSERT_TRUE(RunUntil([&] { return dials_.size() == 2; }));
  {
    const UniqueFd server = Connected(dials_.back());
    EXPECT_EQ(dns::ReadQuery(ReadMessage(server.get()))->name, "b.example");
  }
  ASSERT_TRUE(AwaitReplies(2));  // once is enough
  EXPECT_EQ(Reply(1).rcode, dns::Rcode::kServFail);
  ASSERT_TRUE(replies_[1].failure);
  EXPECT_THAT(replies_[1].failure->text, HasSubstr("192.0.2.9 port 53: closed the connection"));
  EXPECT_EQ(dials_.size(), 2U);
}

TEST_F(DnsServer, GarbageFailsWhatWaits) {
  for (const std::string& garbage :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string(64, '\0'),
        std::string("\x00\x0bxxxxxxxxxxx", 13)}) {
    const size_t before = replies_.size();
    Ask(QueryBytes(7, "a.example", dns::kTypeA));
    const UniqueFd server = Connected(dials_.back());
    (void)ReadMessage(server.get());
    WriteBytes(server.get(), garbage);
    ASSERT_EQ(shutdown(server.get(), SHUT_WR), 0);
    ASSERT_TRUE(AwaitReplies(before + 1));
    EXPECT_EQ(Reply(before).rcode, dns::Rcode::kServFail);
    EXPECT_TRUE(replies_[before].failure);
  }
}

TEST_F(DnsServer, AnswersToNoQuestionAreIgnored) {
  Ask(QueryBytes(7, "a.example", dns::kTypeA));
  const UniqueFd server = Connected(dials_.back());
  const std::string query = ReadMessage(server.get());
  const std::string record = RecordBytes("", dns::kTypeA, 300, IpBytes("192.0.2.66"));
  std::string other = query;
  dns::WriteId(other, static_cast<uint16_t>(dns::ReadId(query) ^ 1));
  WriteBytes(server.get(), Framed(AnswerBytes(other, {record})));
  WriteBytes(server.get(),
             Framed(AnswerBytes(QueryBytes(dns::ReadId(query), "b.example", 1), {record})));
  WriteBytes(server.get(), Framed(AnswerBytes(query, {})));
  ASSERT_TRUE(AwaitReplies(1));
  EXPECT_THAT(Reply(0).addresses, IsEmpty());
  EXPECT_THAT(names_.Of(Ip("192.0.2.66")), IsEmpty());
}

TEST_F(DnsServer, ASlowProxyDelaysNoOther) {
  patience_ = std::chrono::milliseconds(30);
  Restart();
  Ask(QueryBytes(7, "a.example", dns::kTypeA));
  Ask(QueryBytes(8, "localhost", dns::kTypeA));
  EXPECT_EQ(replies_.size(), 1U);
  ASSERT_TRUE(AwaitReplies(2));
  EXPECT_EQ(Reply(1).rcode, dns::Rcode::kServFail);
  EXPECT_FALSE(dials_.front().given_up);
}

TEST_F(DnsServer, AProxyThatFailsIsTold) {
  Ask(QueryBytes(7, "a.example", dns::kTypeA));
  DialResult result;
  result.failure = {.errno_value = ECONNREFUSED, .text = "p:1 (socks5): no", .destination = false};
  const auto done = std::move(dials_.front().done);
  done(std::move(result));
  ASSERT_EQ(replies_.size(), 1U);
  EXPECT_EQ(Reply(0).rcode, dns::Rcode::kServFail);
  EXPECT_EQ(replies_[0].failure->text, "p:1 (socks5): no");
}

// The real Dial, and a SOCKS5 server in front of a DNS server.
TEST(DnsThroughSocks, IsAnswered) {
  std::string request;
  ScriptedProxy proxy([&](ProxySide& side) {
    (void)side.Read(3);
    side.Write(std::string("\x05\x00", 2));
    request = side.Read(5 + 11 + 2);
    side.Write(std::string("\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", 10));
    const std::string query = side.Read(dns::ReadId(side.Read(2)));
    side.Write(
        Framed(AnswerBytes(query, {RecordBytes("", dns::kTypeA, 300, IpBytes("192.0.2.1"))})));
    side.AwaitEnd();
  });
  policy::Proxy socks;
  socks.urls = {proxy.Url("socks5h")};
  policy::DnsSettings settings;
  settings.rule = DnsRule::kProxy;
  settings.resolve = Resolve::kServer;
  settings.server_name = "dns.example";
  settings.proxy = &socks;
  auto loop = EventLoop::Create().value();
  Upstreams upstreams;
  Names names;
  std::vector<DnsReply> replies;
  {
    Resolver resolver(
        {.loop = loop.get(),
         .upstreams = &upstreams,
         .names = &names,
         .dial = &Dial::Start,
         .credentials = [](const auto&, const auto&, pid_t, uint64_t) { return std::nullopt; },
         .take_slot = {},
         .resolv_conf = {}});
    DnsContext context;
    context.settings = &settings;
    resolver.Answer(QueryBytes(9, "www.example.com", dns::kTypeA), DnsTransport::kUdp, context,
                    [&](DnsReply reply) { replies.push_back(std::move(reply)); });
    const auto end = EventLoop::Clock::now() + kBound;
    while (replies.empty() && EventLoop::Clock::now() < end) {
      ASSERT_TRUE(loop->RunOnce(std::chrono::milliseconds(5)));
    }
  }
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_THAT(dns::ReadReply(replies[0].message)->addresses, ElementsAre(Ip("192.0.2.1")));
  EXPECT_EQ(request, std::string("\x05\x01\x00\x03\x0b"
                                 "dns.example\x00\x35",
                                 18));
}

}  // namespace
}  // namespace oakum::agent
