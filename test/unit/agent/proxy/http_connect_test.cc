#include "agent/proxy/http_connect.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

#include "handshake_testing.h"

namespace oakum::agent {
namespace {

const ProxyTarget kTarget = {.name = "a.example", .address = {.ip = {}, .port = 443}};

HttpConnect Plain() { return {ProxyCommand::kConnect, kTarget, {}, ""}; }

TEST(HttpConnect, RequestHeads) {
  EXPECT_EQ(Plain().to_send(), "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
  const ProxyTarget v6 = {.name = "",
                          .address = {.ip = *policy::IpAddress::Parse("2001:db8::1"), .port = 80}};
  EXPECT_EQ(
      HttpConnect(ProxyCommand::kConnect, v6, {.user = "Aladdin", .password = "open sesame"}, "")
          .to_send(),
      "CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n"
      "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
  EXPECT_EQ(HttpConnect(ProxyCommand::kConnect, kTarget, {}, "CONNECT x\r\n\r\n").to_send(),
            "CONNECT x\r\n\r\n");
}

TEST(HttpConnect, Base64OfEveryLength) {  // RFC 4648 section 10
  EXPECT_EQ(Base64(""), "");
  EXPECT_EQ(Base64("f"), "Zg==");
  EXPECT_EQ(Base64("fo"), "Zm8=");
  EXPECT_EQ(Base64("foo"), "Zm9v");
  EXPECT_EQ(Base64("foob"), "Zm9vYg==");
  EXPECT_EQ(Base64("\xff\xfe\xfd"), "//79");
}

TEST(HttpConnect, EverySplit) {
  const std::vector<std::string> heads = {
      "HTTP/1.1 200 Connection established\r\n\r\n",
      "HTTP/1.0 200\r\n\r\n",
      "HTTP/1.1 200 OK\nVia: x\n\n",
      "HTTP/1.1 299 \r\nContent-Length: 5\r\nVia: x\r\n\r\n",
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "
      "OK\r\n\r\n",
  };
  for (const std::string& head : heads) {
    for (size_t piece = 1; piece <= head.size() + 9; ++piece) {
      HttpConnect http = Plain();
      Conversation talk;
      talk.Run(http, {head + "\r\n\r\nhello"}, piece);
      ASSERT_TRUE(http.done()) << head << piece;
      EXPECT_EQ(talk.left, "\r\n\r\nhello") << piece;
    }
  }
}

TEST(HttpConnect, EveryStatus) {
  for (int status = 0; status < 1000; ++status) {
    HttpConnect http = Plain();
    Conversation talk;
    const std::string digits = std::to_string(1000 + status).substr(1);
    talk.Run(http, {"HTTP/1.1 " + digits + " s3cret of us3r\r\nX: s3cret\r\n\r\n"}, 1000);
    if (status >= 100 && status < 200 && status != 101) {
      EXPECT_FALSE(http.over()) << status;
      continue;
    }
    ASSERT_EQ(http.done(), status >= 200 && status < 300) << status;
    if (http.done()) {
      continue;
    }
    const int expected = status == 101                                     ? EPROTO
                         : status == 401 || status == 403 || status == 407 ? EACCES
                         : status == 404 || status == 410 || status == 502 ? EHOSTUNREACH
                         : status == 504                                   ? ETIMEDOUT
                                                                           : ECONNREFUSED;
    const bool destination =
        status == 403 || status == 404 || status == 410 || (status >= 502 && status <= 504);
    ASSERT_TRUE(http.failure());
    EXPECT_EQ(http.failure()->errno_value, expected) << status;
    EXPECT_EQ(http.failure()->destination, destination) << status;
    EXPECT_EQ(http.failure()->text.find("s3cret"), std::string::npos);
  }
}

TEST(HttpConnect, WhatIsNotHttp) {
  using namespace std::string_literals;  // NOLINT(google-build-using-namespace)
  for (const std::string& answer :
       {"\x05\x00"s, "\x00\x5a"s, "SSH-2.0-x\r\n"s, "HTTP/2 200\r\n"s, "HTTP/1.1200\r\n"s,
        "HTTP/1.1 20\r\n\r\n"s, "HTTP/1.1 2000 x\r\n\r\n"s, "\r\n\r\n"s, "HTTP/1.1 abc\r\n"s,
        "\x16\x03\x01"s}) {
    HttpConnect http = Plain();
    Conversation talk;
    talk.Run(http, {answer}, 1);
    ASSERT_TRUE(http.failure()) << answer;
    EXPECT_EQ(http.failure()->errno_value, EPROTO);
    EXPECT_FALSE(http.failure()->destination);
  }
}

TEST(HttpConnect, HeadsAreBounded) {
  for (const std::string& line :
       {std::string("X: y\r\n"), std::string("x"), std::string("\r\n\r\nHTTP/1.1 100 x\r\n\r\n")}) {
    HttpConnect http = Plain();
    Conversation talk;
    std::string flood = "HTTP/1.1 100 ";
    while (flood.size() < 2 * HttpConnect::kMaxHead) {
      flood += line;
    }
    talk.Run(http, {flood}, 4096);
    ASSERT_TRUE(http.failure());
    EXPECT_EQ(http.failure()->errno_value, EPROTO);
  }
}

TEST(HttpConnect, WhatItCannotAsk) {
  const HttpConnect udp(ProxyCommand::kUdpAssociate, kTarget, {}, "");
  EXPECT_EQ(udp.failure()->errno_value, ENETUNREACH);
  EXPECT_FALSE(udp.failure()->destination);
  const HttpConnect split(ProxyCommand::kConnect,
                          {.name = "a\r\nX: y", .address = {.ip = {}, .port = 1}}, {}, "");
  EXPECT_EQ(split.failure()->errno_value, EHOSTUNREACH);
  EXPECT_TRUE(split.to_send().empty());
  const HttpConnect colon(ProxyCommand::kConnect, kTarget, {.user = "a:b", .password = "s3cret"},
                          "");
  EXPECT_EQ(colon.failure()->errno_value, EACCES);
}

TEST(HttpConnect, RandomAnswers) {
  std::mt19937 random(1);  // NOLINT: the same each time
  const std::string likely = "HTTP/1.1 200 x\r\n\r\n";
  for (int round = 0; round < 5000; ++round) {
    HttpConnect http = Plain();
    http.Sent(http.to_send().size());
    for (int step = 0; step < 20000 && !http.over(); ++step) {
      std::string bytes = likely.substr(0, 1 + random() % likely.size());
      if (random() % 4 == 0) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
      bytes.resize(std::min(bytes.size(), http.wants()));
      ASSERT_LE(http.Take(bytes), bytes.size());
    }
    ASSERT_TRUE(http.over());
  }
}

}  // namespace
}  // namespace oakum::agent
