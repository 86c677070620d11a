#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "dial_testing.h"
#include "tls_server.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s

constexpr std::string_view kReply("\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34", 10);

class TlsTest : public DialTest {
 protected:
  static void SetUpTestSuite() {
    // OpenSSL's own sockets, which the server of these tests uses, raise it.
    std::signal(SIGPIPE, SIG_IGN);
    certificates_ = new Certificates;
    good_ = new std::string(certificates_->Make("good", "DNS:localhost,IP:127.0.0.1"));
  }
  static void TearDownTestSuite() {
    delete certificates_;
    delete good_;
  }

  TlsTest() { proxy_.ca_file = certificates_->ca_file(); }

  // What a dial of a SOCKS proxy with that certificate comes to.
  DialResult DialledAt(const std::string& stem, int max_version = 0) {
    server_.reset();
    name_.clear();
    server_.emplace([this, stem, max_version](ProxySide& side) {
      TlsServer tls(side.fd(), stem, max_version);
      name_ = tls.server_name();
      if (!tls.ok()) {
        return;
      }
      (void)tls.Read(3);
      tls.Write("\x05\x00"s);
      (void)tls.Read(18);
      tls.Write(std::string(kReply) + "hello");
      if (tls.Read(4) == "ping") {
        tls.Write("pong");
      }
      // The client's close_notify ends this; then ours does.
      (void)tls.Read(1);
      tls.Write("late");
      tls.CloseNotify();
    });
    proxy_.urls = {server_->Url("socks5h")};
    proxy_.urls[0].tls = true;
    return Dialled();
  }

  // Reads exactly that much, as a relay would.
  static std::string ReadAll(ProxyStream& stream, size_t size) {
    std::string out;
    while (out.size() < size) {
      std::array<char, 64> buffer;
      const ssize_t got =
          stream.tls->Read(buffer.data(), std::min(buffer.size(), size - out.size()));
      if (got > 0) {
        out.append(buffer.data(), static_cast<size_t>(got));
        continue;
      }
      if (got == 0 || errno != EAGAIN) {
        break;
      }
      pollfd waited = {
          .fd = stream.fd.get(),
          .events = static_cast<short>(stream.tls->wants() == EPOLLIN ? POLLIN : POLLOUT),
          .revents = 0};
      if (poll(&waited, 1, 30000) != 1) {
        break;
      }
    }
    return out;
  }

  static inline Certificates* certificates_ = nullptr;
  static inline std::string* good_ = nullptr;
  std::optional<ScriptedProxy> server_;
  std::string name_;  // SNI; read it after server_ is gone
};

TEST_F(TlsTest, SpeaksThroughTlsAndClosesEachWayByItself) {
  DialResult result = DialledAt(*good_);
  ASSERT_FALSE(result.failure) << result.failure->text;
  ASSERT_NE(result.stream.tls, nullptr);
  EXPECT_EQ(ReadAll(result.stream, 5), "hello");
  EXPECT_EQ(result.stream.tls->Write("ping", 4), 4);
  EXPECT_EQ(ReadAll(result.stream, 4), "pong");
  EXPECT_EQ(result.stream.tls->ShutdownWrite(), 0);
  EXPECT_EQ(result.stream.tls->ShutdownWrite(), 0);
  EXPECT_EQ(ReadAll(result.stream, 4), "late");
  char byte = 0;
  ssize_t end = -1;
  for (int tries = 0; tries < 100 && end != 0; ++tries) {
    pollfd waited = {.fd = result.stream.fd.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&waited, 1, 30000), 1);
    end = result.stream.tls->Read(&byte, 1);
  }
  EXPECT_EQ(end, 0);
  server_.reset();
  EXPECT_EQ(name_, "");  // RFC 6066 section 3: no SNI for an address
}

TEST_F(TlsTest, ServerNameOfThePolicy) {
  proxy_.server_name = "localhost";
  ASSERT_FALSE(DialledAt(*good_).failure);
  server_.reset();
  EXPECT_EQ(name_, "localhost");
}

TEST_F(TlsTest, CertificatesThatAreNotToBeTrusted) {
  struct Case {
    std::string stem;
    std::string server_name;
    std::string text;
  };
  const std::vector<Case> cases = {
      {certificates_->MakeExpired("expired", "IP:127.0.0.1"), "", "certificate has expired"},
      {certificates_->Make("other", "DNS:other.test,IP:127.0.0.2"), "", "IP address mismatch"},
      {*good_, "other.test", "hostname mismatch"},
      {certificates_->MakeSelfSigned("self", "IP:127.0.0.1"), "", "self-signed certificate"},
  };
  for (const Case& one : cases) {
    proxy_.server_name = one.server_name;
    const DialResult result = DialledAt(one.stem);
    ASSERT_TRUE(result.failure) << one.text;
    EXPECT_EQ(result.failure->errno_value, EACCES);
    EXPECT_NE(result.failure->text.find("TLS: its certificate is not to be trusted: " + one.text),
              std::string::npos)
        << result.failure->text;
  }
}

TEST_F(TlsTest, TheSystemsAuthoritiesDoNotKnowOurs) {
  proxy_.ca_file.clear();
  const DialResult result = DialledAt(*good_);
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EACCES);
}

TEST_F(TlsTest, OldVersionsAreRefused) {
  ASSERT_FALSE(DialledAt(*good_, TLS1_2_VERSION).failure);
  const DialResult result = DialledAt(*good_, TLS1_1_VERSION);
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EPROTO);
}

TEST_F(TlsTest, AuthoritiesThatCannotBeRead) {
  proxy_.ca_file = "/nonexistent/ca.pem";
  const DialResult result = DialledAt(*good_);
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EACCES);
  EXPECT_NE(result.failure->text.find("/nonexistent/ca.pem"), std::string::npos);
}

TEST_F(TlsTest, WhatIsNotTls) {
  for (const std::string& answer : {"HTTP/1.1 400 Bad Request\r\n\r\n"s, "\x05\x00"s, ""s}) {
    ScriptedProxy plain([&](ProxySide& side) {
      (void)side.Read(5);
      side.Write(answer);
      side.ShutdownWrite();
      side.AwaitEnd();
    });
    proxy_.urls = {plain.Url("https")};
    const DialResult result = Dialled();
    ASSERT_TRUE(result.failure);
    EXPECT_TRUE(result.failure->errno_value == EPROTO || result.failure->errno_value == ECONNRESET)
        << result.failure->text;
  }
}

TEST_F(TlsTest, HttpsKeepsWhatFollowsTheHead) {
  ScriptedProxy proxy([&](ProxySide& side) {
    TlsServer tls(side.fd(), *good_);
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      head += tls.Read(1);
    }
    tls.Write("HTTP/1.1 200 OK\r\n\r\nhello");
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("https")};
  DialResult result = Dialled();
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_EQ(ReadAll(result.stream, 5), "hello");
}

TEST_F(TlsTest, AnEndWithoutCloseNotifyIsAReset) {
  ScriptedProxy proxy([&](ProxySide& side) {
    TlsServer tls(side.fd(), *good_);
    (void)tls.Read(3);
    tls.Write("\x05\x00"s);
    (void)tls.Read(18);
    tls.Write(kReply);
    side.ShutdownWrite();
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  proxy_.urls[0].tls = true;
  DialResult result = Dialled();
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_EQ(ReadAll(result.stream, 1), "");
  EXPECT_EQ(errno, ECONNRESET);
}

}  // namespace
}  // namespace oakum::agent
