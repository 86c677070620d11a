#include "agent/proxy/tls_service.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/proxy/relay.h"
#include "agent/proxy/tls_process.h"
#include "dial_testing.h"
#include "tls_server.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s

constexpr std::string_view kReply("\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34", 10);
constexpr int kPatienceMs = 30'000;

// Two ends of a TCP connection over loopback.
std::pair<UniqueFd, UniqueFd> TcpPair() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in own = {};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof own;
  UniqueFd one(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&own), sizeof own), 0);
  EXPECT_EQ(listen(listener.get(), 1), 0);
  EXPECT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
  EXPECT_EQ(connect(one.get(), reinterpret_cast<sockaddr*>(&own), sizeof own), 0);
  UniqueFd other(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return {std::move(one), std::move(other)};
}

// recv(2) of a blocking or non-blocking socket, with some patience.
ssize_t Receive(int fd, void* data, size_t size) {
  pollfd ready = {fd, POLLIN, 0};
  if (poll(&ready, 1, kPatienceMs) != 1) {
    ADD_FAILURE() << "nothing comes";
    return -1;
  }
  return recv(fd, data, size, 0);
}

// Up to that size, or the end; `error` is that of the end.
std::string ReadSome(int fd, size_t size, int& error) {
  std::string out(size, '\0');
  size_t have = 0;
  error = 0;
  while (have < size) {
    const ssize_t got = Receive(fd, out.data() + have, size - have);
    if (got <= 0) {
      error = got < 0 ? errno : 0;
      break;
    }
    have += static_cast<size_t>(got);
  }
  out.resize(have);
  return out;
}

bool Eventually(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!holds() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return holds();
}

class TlsServiceTest : public DialTest {
 protected:
  static void SetUpTestSuite() {
    std::signal(SIGPIPE, SIG_IGN);  // of OpenSSL's own sockets, which the server uses
    certificates_ = new Certificates;
    good_ = new std::string(certificates_->Make("good", "DNS:localhost,IP:127.0.0.1"));
  }
  static void TearDownTestSuite() {
    delete certificates_;
    delete good_;
  }

  TlsServiceTest() {
    proxy_.ca_file = certificates_->ca_file();
    use_process_ = &*process_;
  }
  ~TlsServiceTest() override {
    process_.reset();
    AwaitEnd();
  }

  // In a thread of this process instead of a process.
  Expected<void> Start(int line_fd) {
    threads_.emplace_back([this, line = fcntl(line_fd, F_DUPFD_CLOEXEC, 0)] {
      const auto ran = RunTlsProcess(UniqueFd(line), max_);
      EXPECT_TRUE(ran) << ran.error().ToString();
      ++ended_;
    });
    return {};
  }
  void AwaitEnd() {
    for (std::thread& thread : threads_) {
      thread.join();
    }
    threads_.clear();
  }

  // A proxy that agrees, and then does that.
  void Serve(std::function<void(ProxySide&, TlsServer&)> then) {
    server_.emplace([then = std::move(then)](ProxySide& side) {
      TlsServer tls(side.fd(), *good_);
      if (!tls.ok()) {
        return;
      }
      (void)tls.Read(3);
      tls.Write("\x05\x00"s);
      (void)tls.Read(18);
      tls.Write(kReply);
      then(side, tls);
    });
    proxy_.urls = {server_->Url("socks5h")};
    proxy_.urls[0].tls = true;
  }

  // The program's end of a relay through it, and the agent's end of the pair.
  std::pair<UniqueFd, UniqueFd> Relayed() {
    DialResult result = Dialled();
    EXPECT_FALSE(result.failure) << result.failure->text;
    EXPECT_TRUE(result.stream.in_tls_process);
    EXPECT_EQ(result.stream.tls, nullptr);
    auto [program, near] = TcpPair();
    EXPECT_EQ(fcntl(near.get(), F_SETFL, O_NONBLOCK), 0);
    EXPECT_TRUE(HandOverToTls(result.stream.fd.get(), near.get()));
    return {std::move(program), std::move(result.stream.fd)};
  }

  static inline Certificates* certificates_ = nullptr;
  static inline std::string* good_ = nullptr;
  std::vector<std::thread> threads_;
  std::atomic<int> ended_{0};
  size_t max_ = 1024;
  std::optional<TlsProcess> process_{[this](int line_fd) { return Start(line_fd); }};
  std::optional<ScriptedProxy> server_;
};

TEST_F(TlsServiceTest, EachWayEndsByItself) {
  Serve([](ProxySide& /*side*/, TlsServer& tls) {
    tls.Write("hello");
    EXPECT_EQ(tls.Read(4), "ping");
    tls.Write("pong");
    EXPECT_EQ(tls.Read(1), "");  // the program's end
    tls.Write("late");
    tls.CloseNotify();
  });
  auto [program, pair] = Relayed();
  int error = 0;
  // What the agent has not read comes first.
  EXPECT_EQ(ReadSome(program.get(), 5, error), "hello");
  EXPECT_EQ(send(program.get(), "ping", 4, 0), 4);
  EXPECT_EQ(ReadSome(program.get(), 4, error), "pong");
  EXPECT_EQ(shutdown(program.get(), SHUT_WR), 0);
  EXPECT_EQ(ReadSome(program.get(), 5, error), "late");
  EXPECT_EQ(error, 0);
  EXPECT_EQ(ReadSome(pair.get(), 2, error), std::string(1, static_cast<char>(TlsWord::kEnded)));
}

TEST_F(TlsServiceTest, WhatIsSaidTwiceChangesNothing) {
  Serve([](ProxySide& /*side*/, TlsServer& tls) {
    EXPECT_EQ(tls.Read(4), "ping");
    tls.Write("pong");
    EXPECT_EQ(tls.Read(1), "");
    tls.CloseNotify();
  });
  auto [program, pair] = Relayed();
  const auto [other, near] = TcpPair();
  EXPECT_TRUE(HandOverToTls(pair.get(), near.get()));
  int error = 0;
  EXPECT_EQ(send(program.get(), "ping", 4, 0), 4);
  EXPECT_EQ(ReadSome(program.get(), 4, error), "pong");
  EXPECT_EQ(shutdown(program.get(), SHUT_WR), 0);
  EXPECT_EQ(ReadSome(program.get(), 1, error), "");
  EXPECT_EQ(error, 0);
}

TEST_F(TlsServiceTest, MuchGoesBothWays) {
  constexpr size_t kMuch = size_t{8} << 20;
  Serve([](ProxySide& /*side*/, TlsServer& tls) {
    const std::string piece(64 * 1024, 'b');
    for (size_t put = 0; put < kMuch; put += piece.size()) {
      tls.Write(piece);
    }
    EXPECT_EQ(tls.Read(kMuch), std::string(kMuch, 'a'));
    EXPECT_EQ(tls.Read(1), "");
    tls.CloseNotify();
  });
  auto [program, pair] = Relayed();
  std::thread sender([fd = program.get()] {
    const std::string all(kMuch, 'a');
    size_t put = 0;
    while (put < all.size()) {
      const ssize_t sent = send(fd, all.data() + put, all.size() - put, MSG_NOSIGNAL);
      ASSERT_GT(sent, 0);
      put += static_cast<size_t>(sent);
    }
    shutdown(fd, SHUT_WR);
  });
  int error = 0;
  EXPECT_EQ(ReadSome(program.get(), kMuch + 1, error), std::string(kMuch, 'b'));
  EXPECT_EQ(error, 0);
  sender.join();
}

TEST_F(TlsServiceTest, AnEndWithoutCloseNotifyIsAReset) {
  Serve([](ProxySide& side, TlsServer& tls) {
    tls.Write("part");
    side.ShutdownWrite();
    side.AwaitEnd();
  });
  auto [program, pair] = Relayed();
  int error = 0;
  EXPECT_EQ(ReadSome(program.get(), 5, error), "part");
  EXPECT_EQ(error, ECONNRESET);
}

// Also after the program's own end, when nothing else could tell it.
TEST_F(TlsServiceTest, AnEndWithoutCloseNotifyIsAResetAfterTheOthersEnd) {
  Serve([](ProxySide& side, TlsServer& tls) {
    EXPECT_EQ(tls.Read(1), "");
    tls.Write("part");
    side.ShutdownWrite();
    side.AwaitEnd();
  });
  auto [program, pair] = Relayed();
  EXPECT_EQ(shutdown(program.get(), SHUT_WR), 0);
  int error = 0;
  EXPECT_EQ(ReadSome(program.get(), 5, error), "part");
  EXPECT_EQ(error, ECONNRESET);
}

// What the proxy sees of the encrypted connection at its end: the errno, 0 for FIN.
int RawEnd(ProxySide& side) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = Receive(side.fd(), buffer.data(), buffer.size());
    if (got <= 0) {
      return got < 0 ? errno : 0;
    }
  }
}

TEST_F(TlsServiceTest, AResetIsPassedOn) {
  std::atomic<int> seen{-1};
  Serve([&](ProxySide& side, TlsServer& /*tls*/) { seen = RawEnd(side); });
  auto [program, pair] = Relayed();
  EXPECT_EQ(send(program.get(), "ping", 4, 0), 4);
  ResetOnClose(program.get(), true);
  program.Reset();
  EXPECT_TRUE(Eventually([&] { return seen != -1; }));
  EXPECT_EQ(seen, ECONNRESET);
}

TEST_F(TlsServiceTest, WhatNobodyKeepsIsReset) {
  std::atomic<int> seen{-1};
  Serve([&](ProxySide& side, TlsServer& /*tls*/) { seen = RawEnd(side); });
  auto [program, pair] = Relayed();
  pair.Reset();
  int error = 0;
  EXPECT_EQ(ReadSome(program.get(), 1, error), "");
  EXPECT_EQ(error, ECONNRESET);
  EXPECT_TRUE(Eventually([&] { return seen != -1; }));
  EXPECT_EQ(seen, ECONNRESET);
}

TEST_F(TlsServiceTest, GoesOnWithoutItsAgentAndEndsWithTheLastConnection) {
  Serve([](ProxySide& /*side*/, TlsServer& tls) {
    EXPECT_EQ(tls.Read(4), "ping");
    tls.Write("pong");
    EXPECT_EQ(tls.Read(1), "");
    tls.CloseNotify();
  });
  auto [program, pair] = Relayed();
  process_.reset();  // the agent's end of the line
  EXPECT_EQ(send(program.get(), "ping", 4, 0), 4);
  int error = 0;
  EXPECT_EQ(ReadSome(program.get(), 4, error), "pong");
  EXPECT_EQ(ended_, 0);
  program.Reset();
  AwaitEnd();
  EXPECT_EQ(ended_, 1);
}

TEST_F(TlsServiceTest, HandshakesThatDoNotGoOnHoldNobodyUp) {
  const UniqueFd silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(listen(silent.get(), 1024), 0);
  sockaddr_in own = {};
  socklen_t size = sizeof own;
  ASSERT_EQ(getsockname(silent.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
  constexpr int kMany = 200;
  std::vector<UniqueFd> pairs;
  for (int i = 0; i < kMany; ++i) {
    const UniqueFd tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    (void)connect(tcp.get(), reinterpret_cast<sockaddr*>(&own), sizeof own);
    auto pair = process_->Give(tcp.get(), "127.0.0.1", certificates_->ca_file());
    ASSERT_TRUE(pair) << pair.error().ToString();
    pairs.push_back(std::move(*pair));
  }
  Serve([](ProxySide& /*side*/, TlsServer& tls) { tls.Write("hello"); });
  {
    auto [program, pair] = Relayed();
    int error = 0;
    EXPECT_EQ(ReadSome(program.get(), 5, error), "hello");
  }
  // Nothing of them is left once the agent has given up.
  process_.reset();
  EXPECT_EQ(ended_, 0);
  pairs.clear();
  AwaitEnd();
}

TEST_F(TlsServiceTest, SaysWhyAHandshakeHasFailed) {
  const std::string expired = certificates_->MakeExpired("expired", "IP:127.0.0.1");
  ScriptedProxy server([&](ProxySide& side) { const TlsServer tls(side.fd(), expired); });
  proxy_.urls = {server.Url("https")};
  DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EACCES);
  EXPECT_NE(result.failure->text.find(
                "(https): TLS: its certificate is not to be trusted: certificate has expired"),
            std::string::npos)
      << result.failure->text;
  ScriptedProxy plain([](ProxySide& side) {
    (void)side.Read(5);
    side.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
    side.AwaitEnd();
  });
  proxy_.urls = {plain.Url("https")};
  result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EPROTO);
  EXPECT_NE(result.failure->text.find("TLS: "), std::string::npos) << result.failure->text;
  proxy_.ca_file = "/nonexistent/ca.pem";
  result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EACCES);
  EXPECT_NE(result.failure->text.find("/nonexistent/ca.pem"), std::string::npos)
      << result.failure->text;
}

TEST_F(TlsServiceTest, BeyondItsBoundTheAgentSpeaksTlsItself) {
  max_ = 2;
  Serve([](ProxySide& side, TlsServer& /*tls*/) { side.AwaitEnd(); });
  std::vector<UniqueFd> pairs;
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 2; ++i) {
    auto [tcp, other] = TcpPair();
    ASSERT_EQ(fcntl(tcp.get(), F_SETFL, O_NONBLOCK), 0);
    auto pair = process_->Give(tcp.get(), "127.0.0.1", certificates_->ca_file());
    ASSERT_TRUE(pair) << pair.error().ToString();
    pairs.push_back(std::move(*pair));
    sockets.push_back(std::move(other));
  }
  std::array<char, 1> hello;
  for (const UniqueFd& one : sockets) {
    EXPECT_EQ(Receive(one.get(), hello.data(), 1), 1);  // its handshake has begun
  }
  const DialResult result = Dialled();
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_FALSE(result.stream.in_tls_process);
  EXPECT_NE(result.stream.tls, nullptr);
}

TEST_F(TlsServiceTest, WhereThereIsNoProcessTheAgentSpeaksTlsItself) {
  TlsProcess none([](int /*line_fd*/) { return MakeError(EPIPE, "nobody starts one"); });
  use_process_ = &none;
  Serve([](ProxySide& side, TlsServer& /*tls*/) { side.AwaitEnd(); });
  const DialResult result = Dialled();
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_NE(result.stream.tls, nullptr);
}

TEST_F(TlsServiceTest, AnotherOneIsStartedWhereItIsGone) {
  int started = 0;
  TlsProcess process([&](int line_fd) -> Expected<void> {
    return ++started == 1 ? Expected<void>() : Start(line_fd);  // the first one is gone at once
  });
  use_process_ = &process;
  Serve([](ProxySide& side, TlsServer& /*tls*/) { side.AwaitEnd(); });
  const DialResult result = Dialled();
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_TRUE(result.stream.in_tls_process);
  EXPECT_EQ(started, 2);
}

}  // namespace
}  // namespace oakum::agent
