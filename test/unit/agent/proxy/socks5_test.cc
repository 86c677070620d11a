#include "agent/proxy/socks5.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

#include "handshake_testing.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s

ProxyTarget Named(const std::string& name, uint16_t port) {
  return {.name = name, .address = {.ip = {}, .port = port}};
}
ProxyTarget Addressed(std::string_view ip, uint16_t port) {
  return {.name = "", .address = {.ip = *policy::IpAddress::Parse(ip), .port = port}};
}

std::string Reply(uint8_t code) {
  return "\x05"s + static_cast<char>(code) + "\x00\x01\x0a\x00\x00\x01\x00\x50"s;
}

TEST(Socks5, RequestsByNameAndByAddress) {
  struct Case {
    ProxyCommand command;
    ProxyTarget target;
    std::string request;
  };
  const std::vector<Case> cases = {
      {ProxyCommand::kConnect, Named("a.example", 443),
       "\x05\x01\x00\x03\x09"s
       "a.example\x01\xbb"s},
      {ProxyCommand::kConnect, Addressed("192.0.2.1", 80),
       "\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"s},
      {ProxyCommand::kConnect, Addressed("2001:db8::1", 80),
       "\x05\x01\x00\x04\x20\x01\x0d\xb8"s + std::string(11, '\0') + "\x01\x00\x50"s},
      {ProxyCommand::kUdpAssociate, Addressed("0.0.0.0", 0),
       "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"s},
      {ProxyCommand::kResolve, Named("a.example", 0),
       "\x05\xf0\x00\x03\x09"s
       "a.example\x00\x00"s},
      {ProxyCommand::kResolvePtr, Addressed("192.0.2.1", 0),
       "\x05\xf1\x00\x01\xc0\x00\x02\x01\x00\x00"s},
  };
  for (const Case& one : cases) {
    Socks5 socks(one.command, one.target, {});
    Conversation talk;
    talk.Run(socks, {"\x05\x00"s, ""}, 100);
    ASSERT_EQ(talk.sent.size(), 2U);
    EXPECT_EQ(talk.sent[0], "\x05\x01\x00"s);
    EXPECT_EQ(talk.sent[1], one.request);
  }
}

// Whatever the pieces are, and however much comes at once, only the handshake is taken.
TEST(Socks5, EverySplitOfEveryAnswer) {
  const std::vector<std::string> replies = {
      "\x05\x00\x00\x01\x0a\x00\x00\x01\x00\x50"s,
      "\x05\x00\x00\x04\x20\x01\x0d\xb8"s + std::string(12, '\1') + "\x00\x50"s,
      "\x05\x00\x00\x03\x00\x00\x50"s,
      "\x05\x00\x00\x03\x04name\x00\x50"s,
      "\x05\x00\x00\x03\xff"s + std::string(255, 'n') + "\x00\x50"s,
  };
  for (const std::string& reply : replies) {
    for (size_t piece = 1; piece <= reply.size() + 3; ++piece) {
      Socks5 socks(ProxyCommand::kConnect, Named("a.example", 443), {.user = "u", .password = "p"});
      Conversation talk;
      talk.Run(socks, {"\x05\x02"s, "\x01\x00"s, reply + "\x05\x00\x00greeting"s}, piece);
      ASSERT_TRUE(socks.done()) << piece;
      EXPECT_EQ(talk.left, "\x05\x00\x00greeting"s) << piece;
      EXPECT_EQ(socks.bound().port, 0x50);
      EXPECT_EQ(socks.wants(), 0U);
      EXPECT_EQ(talk.sent[0], "\x05\x01\x02"s);
      EXPECT_EQ(talk.sent[1], "\x01\x01u\x01p"s);
    }
  }
}

TEST(Socks5, EveryReplyCode) {
  struct Expected {
    int error;
    bool destination;
  };
  const auto expected = [](int code) -> Expected {
    switch (code) {
      case 1:
        return {ECONNREFUSED, false};
      case 2:
        return {EACCES, true};
      case 3:
        return {ENETUNREACH, true};
      case 4:
        return {EHOSTUNREACH, true};
      case 5:
        return {ECONNREFUSED, true};
      case 6:
        return {ETIMEDOUT, true};
      case 7:
      case 8:
        return {ENETUNREACH, false};
      case 0xf0:
      case 0xf1:
      case 0xf2:
      case 0xf3:
      case 0xf6:
        return {EHOSTUNREACH, true};
      case 0xf4:
      case 0xf5:
        return {EACCES, true};
      case 0xf7:
        return {ETIMEDOUT, true};
      default:
        return {ECONNREFUSED, false};
    }
  };
  for (int code = 1; code < 256; ++code) {
    // A refusal that is cut short counts as well.
    for (const size_t size : {size_t{10}, size_t{2}}) {
      Socks5 socks(ProxyCommand::kConnect, Named("a.example", 443), {});
      Conversation talk;
      talk.Run(socks, {"\x05\x00"s, Reply(static_cast<uint8_t>(code)).substr(0, size)}, 10);
      ASSERT_TRUE(socks.failure()) << code;
      EXPECT_EQ(socks.failure()->errno_value, expected(code).error) << code;
      EXPECT_EQ(socks.failure()->destination, expected(code).destination) << code;
      EXPECT_FALSE(socks.failure()->text.empty());
    }
  }
}

TEST(Socks5, WhatIsNotSocks5) {
  struct Case {
    std::vector<std::string> answers;
    int error;
    std::string text;
  };
  const Credentials secret = {.user = "us3r", .password = "s3cret"};
  const std::vector<Case> cases = {
      {{"HTTP/1.1 400 Bad Request\r\n\r\n"},
       EPROTO,
       "does not speak SOCKS5: it answers as HTTP does"},
      {{"\x00\x5a"s + std::string(6, '\0')},
       EPROTO,
       "does not speak SOCKS5: it answers as SOCKS4 does"},
      {{"\x04"s}, EPROTO, "does not speak SOCKS5: it answers with 0x04"},
      {{"\x05\xff"s}, EACCES, "refused to take a user and a password"},
      {{"\x05\x00"s}, EPROTO, "chose method 0 that was not offered"},
      {{"\x05\x01"s}, EPROTO, "chose method 1 that was not offered"},
      {{"\x05\x02"s, "\x01\x01"s}, EACCES, "refused the credentials"},
      {{"\x05\x02"s, "\x01\xff"s}, EACCES, "refused the credentials"},
      {{"\x05\x02"s, "\x05\x00"s}, EPROTO, "does not speak RFC 1929: it answers with 0x05"},
      {{"\x05\x02"s, "\x01\x00"s, "HTTP"},
       EPROTO,
       "does not speak SOCKS5: it answers as HTTP does"},
      {{"\x05\x02"s, "\x01\x00"s, "\x05\x00\x00\x02"s},
       EPROTO,
       "answered with an unknown type of address, 2"},
  };
  for (const Case& one : cases) {
    Socks5 socks(ProxyCommand::kConnect, Named("a.example", 443), secret);
    Conversation talk;
    talk.Run(socks, one.answers, 1);
    ASSERT_TRUE(socks.failure()) << one.text;
    EXPECT_EQ(socks.failure()->errno_value, one.error) << one.text;
    EXPECT_EQ(socks.failure()->text, one.text);
    EXPECT_FALSE(socks.failure()->destination);
    EXPECT_TRUE(socks.to_send().empty());
  }
}

TEST(Socks5, ClosedEarlyAtEveryByte) {
  const std::vector<std::string> whole = {"\x05\x02"s, "\x01\x00"s, Reply(0)};
  for (size_t message = 0; message < whole.size(); ++message) {
    for (size_t size = 0; size < whole[message].size(); ++size) {
      std::vector<std::string> answers(whole.begin(), whole.begin() + static_cast<long>(message));
      answers.push_back(whole[message].substr(0, size));
      Socks5 socks(ProxyCommand::kConnect, Named("a.example", 443), {.user = "u", .password = "p"});
      Conversation talk;
      talk.Run(socks, answers, 1);
      ASSERT_FALSE(socks.over());
      socks.Closed();
      ASSERT_TRUE(socks.failure());
      EXPECT_EQ(socks.failure()->errno_value, ECONNRESET);
      EXPECT_EQ(socks.requested(), message == 2);
    }
  }
}

TEST(Socks5, AnswersThatDoNotFitTheQuestion) {
  const std::string address = Reply(0);
  const std::string name = "\x05\x00\x00\x03\x04name\x00\x50"s;
  const std::string odd = "\x05\x00\x00\x03\x04n\nme\x00\x50"s;
  const auto run = [](ProxyCommand command, const std::string& reply) {
    Socks5 socks(
        command,
        command == ProxyCommand::kResolve ? Named("a.example", 0) : Addressed("192.0.2.1", 0), {});
    Conversation talk;
    talk.Run(socks, {"\x05\x00"s, reply}, 5);
    return std::pair(socks.failure() ? socks.failure()->errno_value : 0, socks.resolved_name());
  };
  EXPECT_EQ(run(ProxyCommand::kResolve, address).first, 0);
  EXPECT_EQ(run(ProxyCommand::kResolve, name).first, EPROTO);
  EXPECT_EQ(run(ProxyCommand::kUdpAssociate, address).first, 0);
  EXPECT_EQ(run(ProxyCommand::kUdpAssociate, name).first, EPROTO);
  EXPECT_EQ(run(ProxyCommand::kResolvePtr, address).first, EPROTO);
  EXPECT_EQ(run(ProxyCommand::kResolvePtr, name), std::pair(0, "name"s));
  EXPECT_EQ(run(ProxyCommand::kResolvePtr, odd), std::pair(EPROTO, ""s));
}

TEST(Socks5, NamesThatNoProxyTakes) {
  for (const std::string& name :
       {std::string(256, 'a'), "a b"s, "a\nb"s, "a\0b"s, "a@b"s, "b\xc3\xa4r"s}) {
    Socks5 socks(ProxyCommand::kConnect, Named(name, 443), {});
    ASSERT_TRUE(socks.failure()) << name;
    EXPECT_EQ(socks.failure()->errno_value, EHOSTUNREACH);
    EXPECT_TRUE(socks.failure()->destination);
    EXPECT_TRUE(socks.to_send().empty());
  }
}

// Whatever comes: it ends, takes no more than it wants, and says nothing of the credentials.
TEST(Socks5, RandomAnswers) {
  std::mt19937 random(1);  // NOLINT: the same each time
  for (int round = 0; round < 20000; ++round) {
    Socks5 socks(
        static_cast<ProxyCommand>(random() % 4), Addressed("192.0.2.1", 1),
        random() % 2 != 0 ? Credentials{} : Credentials{.user = "us3r", .password = "s3cret"});
    for (int step = 0; step < 300 && !socks.over(); ++step) {
      socks.Sent(socks.to_send().size());
      const size_t wants = socks.wants();
      ASSERT_GT(wants, 0U);
      std::string bytes(1 + random() % wants, '\0');
      for (char& byte : bytes) {
        static constexpr std::string_view kLikely("\x05\x00\x01\x02\x03\x04\xff", 7);
        byte = random() % 8 != 0 ? kLikely[random() % kLikely.size()] : static_cast<char>(random());
      }
      ASSERT_LE(socks.Take(bytes), bytes.size());
    }
    ASSERT_TRUE(socks.over());
    if (socks.failure()) {
      EXPECT_EQ(socks.failure()->text.find("s3cret"), std::string::npos);
      EXPECT_EQ(socks.failure()->text.find("us3r"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace oakum::agent
