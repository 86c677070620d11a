// Programs that speak to the proxy themselves, under "handshake".
#include <sys/uio.h>

#include "test/unit/agent/guarded_session.h"
#include "test/unit/agent/proxy/socks_server.h"

namespace oakum::agent {
namespace {

using std::string_literals::operator""s;

std::string Checking(uint16_t port, std::string_view mode, std::string_view auth) {
  return fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "socks5h://127.0.0.1:{}"}}}},
           "policies": {{"p": {{"mode": "{}", "proxy": "x", "dns": "allow",
                               "outgoing": {{"default": "deny", "allow": ["127.0.0.1:{}"],
                                            "deny": ["*.denied.example"]}},
                               "handshake": {{"require": "socks5", "auth": "{}"}}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      port, mode, port == 1 ? 2 : 1, auth);
}

const std::string kNoAuth = "\5\1\0"s;
const std::string kByName = "\5\1\0\3\13example.com\1\273"s;

// What the proxy end answers to `pieces`, each written with a call of its own; nothing after a
// reset.
std::string Converse(uint16_t port, const std::vector<std::string>& pieces) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in address = Loopback(port);
  const timeval limit = {20, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return "connect: "s + strerrorname_np(errno);
  }
  std::string all;
  bool vectored = false;
  for (std::string piece : pieces) {
    const iovec part = {piece.data(), piece.size()};
    const ssize_t put = vectored ? writev(fd.get(), &part, 1)
                                 : send(fd.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
    vectored = !vectored;
    if (put != static_cast<ssize_t>(piece.size())) {
      return all + "|send";
    }
    char buffer[256];
    ssize_t got = 0;
    do {
      got = recv(fd.get(), buffer, sizeof buffer, 0);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
      return all + (got == 0 ? "|end" : "|"s + strerrorname_np(errno));
    }
    all.append(buffer, static_cast<size_t>(got));
  }
  return all;
}

class HandshakeTest : public testing::Test {
 protected:
  std::string Said(const std::string& mode, const std::string& auth,
                   const std::vector<std::string>& pieces) {
    Guarded guarded(Checking(proxy_.port(), mode, auth));
    std::string output;
    EXPECT_EQ(guarded.Run(
                  [&](int out) {
                    const std::string said = Converse(proxy_.port(), pieces);
                    return write(out, said.data(), said.size()) < 0 ? 1 : 0;
                  },
                  &output),
              0);
    for (const Event& event : guarded.sink().events()) {
      events_ += event.detail + "\n";
    }
    return output;
  }

  SocksServer proxy_{Echo};
  std::string events_;
};

TEST_F(HandshakeTest, WhatIsWellGoesThrough) {
  const std::string said = Said("enforce", "any", {kNoAuth, kByName, "hello"});
  EXPECT_EQ(said.substr(0, 4), "\5\0\5\0"s) << events_;
  EXPECT_TRUE(said.ends_with("hello")) << events_;
  EXPECT_EQ(proxy_.targets(), std::vector<std::string>{"example.com:443"});
}

TEST_F(HandshakeTest, NothingPassesBeforeAllIsWell) {
  // Without Oakum the proxy takes each of the two requests that it can read.
  EXPECT_EQ(Converse(proxy_.port(), {kNoAuth, "\5\1\0\1\300\0\2\7\0\120"s}).substr(0, 4),
            "\5\0\5\0"s);
  ASSERT_EQ(proxy_.targets().size(), 1U);
  EXPECT_EQ(Said("enforce", "any", {"\4\1\0\120\1\2\3\4\0"s}), "|ECONNRESET");
  EXPECT_EQ(Said("enforce", "any", {"\26\3\1\2\0"s}), "|ECONNRESET");
  EXPECT_EQ(Said("enforce", "any", {"GET / HTTP/1.1\r\n\r\n"}), "|ECONNRESET");
  EXPECT_EQ(Said("enforce", "password", {kNoAuth}), "\5\377");
  // An address: the name was resolved elsewhere.
  EXPECT_EQ(Said("enforce", "any", {kNoAuth, "\5\1\0\1\300\0\2\7\0\120"s}),
            "\5\0\5\2\0\1\0\0\0\0\0\0"s);
  // A destination that the policy denies.
  EXPECT_EQ(Said("enforce", "any", {kNoAuth, "\5\1\0\3\20x.denied.example\0\120"s}),
            "\5\0\5\2\0\1\0\0\0\0\0\0"s);
  for (const char* problem : {"SOCKS4", "TLS", "HTTP, or text", "without authentication",
                              "a name was resolved elsewhere", "x.denied.example:80 is denied"}) {
    EXPECT_NE(events_.find(problem), std::string::npos) << problem << " in " << events_;
  }
  EXPECT_EQ(proxy_.targets().size(), 1U);
}

// In audit the program talks to the proxy itself, and the event says what enforce would have done.
TEST_F(HandshakeTest, AuditListensAndLetsPass) {
  EXPECT_EQ(Said("audit", "any", {kNoAuth, kByName, "hello"}).substr(0, 4), "\5\0\5\0"s);
  EXPECT_EQ(events_, "");
  const std::string said = Said("audit", "any", {kNoAuth, "\5\1\0\1\300\0\2\7\0\120"s, "hello"});
  EXPECT_TRUE(said.ends_with("hello"));
  EXPECT_NE(events_.find("a name was resolved elsewhere"), std::string::npos) << events_;
  EXPECT_EQ(proxy_.targets(), (std::vector<std::string>{"example.com:443", "192.0.2.7:80"}));
}

}  // namespace
}  // namespace oakum::agent
