// DNS over TCP as a container's program speaks it.
#include <gmock/gmock.h>

#include "agent/dns/tcp_service.h"
#include "test/unit/agent/dns_resolver_testing.h"

namespace oakum::agent {
namespace {

using ::testing::IsEmpty;

class DnsStream : public ResolverTest {
 protected:
  DnsStream() { Use(policy::DnsRule::kProxy); }

  // The program's end of a connection that is served.
  UniqueFd Connect() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    resolver_->Serve(UniqueFd(pair[0]), context_,
                     [this](const DnsReply& reply) { replies_.push_back(reply); });
    return UniqueFd(pair[1]);
  }
  // Whether the other end has closed, with nothing more to read.
  [[nodiscard]] bool IsClosed(int stream_fd) { return ReadExactly(stream_fd, 1).empty(); }
};

TEST_F(DnsStream, QueriesArePipelined) {
  const UniqueFd stream = Connect();
  std::string queries;
  for (unsigned i = 0; i < 300; ++i) {
    queries += Framed(QueryBytes(i, "host" + std::to_string(i) + ".example", dns::kTypeA));
  }
  WriteBytes(stream.get(), queries);
  for (unsigned i = 0; i < 300; ++i) {
    const auto reply = dns::ReadReply(ReadMessage(stream.get()));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->id, i);
  }
  EXPECT_EQ(replies_.size(), 300U);
}

TEST_F(DnsStream, AByteAtATimeAndHalfClosed) {
  const UniqueFd stream = Connect();
  for (const char byte : Framed(QueryBytes(7, "a.example", dns::kTypeA))) {
    WriteBytes(stream.get(), std::string(1, byte));
    ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(1)));
  }
  ASSERT_EQ(shutdown(stream.get(), SHUT_WR), 0);
  EXPECT_EQ(dns::ReadId(ReadMessage(stream.get())), 7);
  EXPECT_TRUE(IsClosed(stream.get()));
}

TEST_F(DnsStream, AnswersThatTakeTimeComeAfterAHalfClose) {
  settings_.resolve = policy::Resolve::kTor;
  const UniqueFd stream = Connect();
  WriteBytes(stream.get(), Framed(QueryBytes(7, "a.example", dns::kTypeA)));
  ASSERT_EQ(shutdown(stream.get(), SHUT_WR), 0);
  ASSERT_TRUE(RunUntil([&] { return !dials_.empty(); }));
  ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(5)));
  DialResult result;
  result.stream.bound.ip = Ip("192.0.2.1");
  dials_.front().done(std::move(result));
  EXPECT_EQ(dns::ReadId(ReadMessage(stream.get())), 7);
  EXPECT_TRUE(IsClosed(stream.get()));
}

TEST_F(DnsStream, WhatIsNoDnsIsClosed) {
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        std::string("\x16\x03\x01\x02", 4), std::string(2, '\0'), Bytes16(11),
        Bytes16(dns::kMaxQuery + 1), Framed(Header(1, 0x8180, 1) + QuestionBytes("a.b", 1))}) {
    const UniqueFd stream = Connect();
    WriteBytes(stream.get(), bytes);
    EXPECT_TRUE(IsClosed(stream.get())) << bytes;
  }
  EXPECT_THAT(replies_, IsEmpty());
}

TEST_F(DnsStream, AMalformedQueryIsAnswered) {
  const UniqueFd stream = Connect();
  WriteBytes(stream.get(), Framed(Header(9, 0x0100, 1)));
  const std::string answer = ReadMessage(stream.get());
  EXPECT_EQ(answer, Header(9, 0x8181, 0));
}

TEST_F(DnsStream, AProgramThatDoesNotReadIsNotReadFrom) {
  const UniqueFd stream = Connect();
  const std::string query = Framed(QueryBytes(7, "a.example", dns::kTypeA));
  size_t sent = 0;
  for (size_t stalled = 0; stalled < 50;) {
    const ssize_t put = send(stream.get(), query.data(), query.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put == static_cast<ssize_t>(query.size())) {
      ++sent;
      stalled = 0;
    } else {
      ASSERT_LT(put, 0);  // a whole query or none: a unix socket's buffers
      ++stalled;
      ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(1)));
    }
    ASSERT_LT(sent, 1'000'000U);
  }
  for (size_t i = 0; i < sent; ++i) {
    ASSERT_EQ(dns::ReadId(ReadMessage(stream.get())), 7) << i;
  }
}

TEST_F(DnsStream, StreamsAreBounded) {
  std::vector<UniqueFd> streams;
  for (size_t i = 0; i < dns::TcpService::kMaxStreams; ++i) {
    streams.push_back(Connect());
  }
  EXPECT_TRUE(IsClosed(Connect().get()));
  WriteBytes(streams.back().get(), Framed(QueryBytes(7, "a.example", dns::kTypeA)));
  EXPECT_EQ(dns::ReadId(ReadMessage(streams.back().get())), 7);
  streams.pop_back();  // its place is free again
  const UniqueFd another = Connect();
  ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(50)));
  const UniqueFd later = Connect();
  WriteBytes(later.get(), Framed(QueryBytes(8, "a.example", dns::kTypeA)));
  EXPECT_EQ(dns::ReadId(ReadMessage(later.get())), 8);
}

TEST(DnsTcpService, AnIdleStreamIsClosed) {
  auto loop = EventLoop::Create().value();
  dns::TcpService service(*loop, std::chrono::milliseconds(50));
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd stream(pair[1]);
  service.Serve(UniqueFd(pair[0]), [](std::string_view, const auto&) {});
  EXPECT_EQ(service.streams(), 1U);
  const auto end = EventLoop::Clock::now() + kBound;
  while (service.streams() > 0 && EventLoop::Clock::now() < end) {
    ASSERT_TRUE(loop->RunOnce(std::chrono::milliseconds(10)));
  }
  EXPECT_EQ(service.streams(), 0U);
}

TEST(DnsTcpService, AnswersAfterItsEndAreHarmless) {
  auto loop = EventLoop::Create().value();
  dns::TcpService::Done late;
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd stream(pair[1]);
  {
    dns::TcpService service(*loop);
    service.Serve(UniqueFd(pair[0]),
                  [&](std::string_view, dns::TcpService::Done done) { late = std::move(done); });
    const std::string query = Framed(QueryBytes(7, "a.example", dns::kTypeA));
    ASSERT_GT(send(stream.get(), query.data(), query.size(), 0), 0);
    const auto end = EventLoop::Clock::now() + kBound;
    while (!late && EventLoop::Clock::now() < end) {
      ASSERT_TRUE(loop->RunOnce(std::chrono::milliseconds(10)));
    }
  }
  ASSERT_TRUE(late);
  late("x");
}

}  // namespace
}  // namespace oakum::agent
