#include "agent/proxy/dial.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "dial_testing.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s

constexpr std::string_view kReply("\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34", 10);

// What a stream says next, waited for.
std::string ReadSome(int fd, size_t size) {
  std::string out(size, '\0');
  size_t have = 0;
  while (have < size) {
    pollfd waited = {.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&waited, 1, 30000) != 1) {
      break;
    }
    const ssize_t got = recv(fd, out.data() + have, size - have, 0);
    if (got <= 0) {
      break;
    }
    have += static_cast<size_t>(got);
  }
  out.resize(have);
  return out;
}

void AnswerSocks(ProxySide& side) {
  (void)side.Read(3);
  side.Write("\x05\x00"s);
  const std::string head = side.Read(5);
  (void)side.Read(head.size() == 5 && head[3] == 3 ? static_cast<uint8_t>(head[4]) + 2U : 5U);
  // The destination's first bytes come with the reply.
  side.Write(std::string(kReply) + "hello");
  side.AwaitEnd();
}

TEST_F(DialTest, SocksHandsOverTheNameAndKeepsWhatFollows) {
  std::string greeting;
  std::string request;
  std::optional<ScriptedProxy> proxy(std::in_place, [&](ProxySide& side) {
    greeting = side.Read(3);
    side.Write("\x05\x00"s);
    request = side.Read(4 + 1 + 11 + 2);
    side.Write(std::string(kReply) + "hello");
    side.AwaitEnd();
  });
  proxy_.urls = {proxy->Url("socks5h")};
  {
    DialResult result = Dialled();
    ASSERT_FALSE(result.failure) << result.failure->text;
    EXPECT_EQ(result.stream.bound.port, 0x1234);
    EXPECT_EQ(ReadSome(result.stream.fd.get(), 5), "hello");
  }
  proxy.reset();
  EXPECT_EQ(greeting, "\x05\x01\x00"s);
  EXPECT_EQ(request, "\x05\x01\x00\x03\x0b"s + "example.com\x01\xbb");
}

TEST_F(DialTest, HttpKeepsWhatFollows) {
  std::string request;
  std::optional<ScriptedProxy> proxy(std::in_place, [&](ProxySide& side) {
    request = side.ReadUntil("\r\n\r\n");
    side.Write("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nhello");
    side.AwaitEnd();
  });
  proxy_.urls = {proxy->Url("http", "user:secret")};
  {
    DialResult result = Dialled();
    ASSERT_FALSE(result.failure) << result.failure->text;
    EXPECT_EQ(ReadSome(result.stream.fd.get(), 5), "hello");
  }
  proxy.reset();
  EXPECT_EQ(request,
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"
            "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n");
}

TEST_F(DialTest, GoesOnToTheNextUrlWhenTheProxyIsDown) {
  UniqueFd keep;
  ScriptedProxy good(AnswerSocks);
  proxy_.urls = {DownUrl("socks5h", keep), good.Url("socks5h")};
  ASSERT_FALSE(Dialled().failure);
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{1, 0}));
  ASSERT_FALSE(Dialled().failure);
}

TEST_F(DialTest, EachUrlThatFailedIsNamed) {
  UniqueFd first;
  UniqueFd second;
  proxy_.urls = {DownUrl("socks5h", first), DownUrl("http", second)};
  const DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, ECONNREFUSED);
  EXPECT_EQ(result.failure->text, "127.0.0.1:" + std::to_string(proxy_.urls[0].port) +
                                      " (socks5h): connect: Connection refused; 127.0.0.1:" +
                                      std::to_string(proxy_.urls[1].port) +
                                      " (http): connect: Connection refused");
}

TEST_F(DialTest, DestinationFailuresAreFinal) {
  ScriptedProxy refusing([](ProxySide& side) {
    (void)side.Read(3);
    side.Write("\x05\x00"s);
    (void)side.Read(18);
    side.Write("\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"s);
    side.AwaitEnd();
  });
  ScriptedProxy other(AnswerSocks);
  proxy_.urls = {refusing.Url("socks5h"), other.Url("socks5h")};
  const DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EHOSTUNREACH);
  EXPECT_TRUE(result.failure->destination);
  EXPECT_EQ(other.connections(), 0U);
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{0, 1}));
}

}  // namespace
}  // namespace oakum::agent
