// What programs say to proxies, whole and byte by byte.
#include "agent/proxy/handshake_check.h"

#include <gtest/gtest.h>

namespace oakum::agent {
namespace {

using Auth = policy::HandshakeRules::Auth;
using Protocol = policy::HandshakeRules::Protocol;
using State = HandshakeCheck::State;
using std::string_literals::operator""s;

policy::HandshakeRules Rules(Protocol require, Auth auth, const char* isolation = nullptr) {
  policy::HandshakeRules rules;
  rules.require = require;
  rules.auth = auth;
  if (isolation != nullptr) {
    rules.isolation = policy::PasswordPattern::Parse(isolation);
    EXPECT_TRUE(rules.isolation.has_value());
  }
  return rules;
}

struct Said {
  State state;
  std::string reply;
  std::string problem;
  ProxyTarget target;
  Credentials credentials;
  std::string early;
};

// The same whole and byte by byte.
Said Say(const policy::HandshakeRules& rules, const std::string& bytes) {
  HandshakeCheck whole(rules);
  Said said{};
  said.state = whole.Take(bytes, said.reply);
  HandshakeCheck pieces(rules);
  std::string reply;
  State state = State::kReading;
  for (const char byte : bytes) {
    if (state == State::kReading) {
      state = pieces.Take({&byte, 1}, reply);
    }
  }
  EXPECT_EQ(state, said.state);
  EXPECT_EQ(reply, said.reply);
  EXPECT_EQ(pieces.problem(), whole.problem());
  said.problem = whole.problem();
  said.target = whole.target();
  said.credentials = whole.credentials();
  said.early = whole.TakeEarly();
  return said;
}

const std::string kNoAuth = "\5\1\0"s;
const std::string kPassword = "\5\1\2\1\4user\3abc"s;
const std::string kByName = "\5\1\0\3\13example.com\1\273"s;

TEST(HandshakeCheckTest, TakesARequestForAName) {
  const Said said = Say(Rules(Protocol::kSocks5, Auth::kAny), kNoAuth + kByName + "early");
  EXPECT_EQ(said.state, State::kAsked);
  EXPECT_EQ(said.reply, "\5\0"s);
  EXPECT_EQ(said.target.name, "example.com");
  EXPECT_EQ(said.target.address.port, 443);
  EXPECT_EQ(said.credentials.user, "");
  EXPECT_EQ(said.early, "early");
}

TEST(HandshakeCheckTest, TakesCredentials) {
  for (const Auth auth : {Auth::kAny, Auth::kPassword}) {
    const Said said = Say(Rules(Protocol::kSocks5, auth, "[a-c]{3}"), kPassword + kByName);
    EXPECT_EQ(said.state, State::kAsked) << said.problem;
    EXPECT_EQ(said.reply, "\5\2\1\0"s);
    EXPECT_EQ(said.credentials.user, "user");
    EXPECT_EQ(said.credentials.password, "abc");
  }
  const Said tor =
      Say(Rules(Protocol::kSocks5, Auth::kTor), "\5\1\2\1\11<torS0X>0\3abc"s + kByName);
  EXPECT_EQ(tor.state, State::kAsked) << tor.problem;
}

TEST(HandshakeCheckTest, RefusesWhatThePolicyDoesNotWant) {
  struct Case {
    policy::HandshakeRules rules;
    std::string bytes;
    std::string problem;
    std::string reply;
  };
  const Case kCases[] = {
      {Rules(Protocol::kSocks5, Auth::kAny), "\4\1\0\120\1\2\3\4\0"s, "SOCKS4", ""},
      {Rules(Protocol::kSocks5, Auth::kAny), "\26\3\1\2\0"s, "TLS", ""},
      {Rules(Protocol::kSocks5, Auth::kAny), "GET / HTTP/1.1\r\n\r\n", "HTTP, or text", ""},
      {Rules(Protocol::kSocks5, Auth::kAny), "\377\377\377", "no SOCKS5", ""},
      {Rules(Protocol::kSocks5, Auth::kPassword), kNoAuth, "offers to go without authentication",
       "\5\377"},
      {Rules(Protocol::kSocks5, Auth::kPassword), "\5\2\0\2"s,
       "offers to go without authentication", "\5\377"},
      {Rules(Protocol::kSocks5, Auth::kNone), "\5\1\2"s, "offers no authentication that is allowed",
       "\5\377"},
      {Rules(Protocol::kSocks5, Auth::kAny, "x+"), kNoAuth,
       "no password where \"isolation\" wants one", "\5\377"},
      {Rules(Protocol::kSocks5, Auth::kPassword, "x+"), kPassword,
       "a password that does not match \"isolation\"", "\5\2\1\1"},
      {Rules(Protocol::kSocks5, Auth::kTor), kPassword, "a user that is not in Tor's format",
       "\5\2\1\1"},
      {Rules(Protocol::kSocks5, Auth::kAny), kNoAuth + "\5\3\0\1\0\0\0\0\0\0"s, "UDP ASSOCIATE",
       "\5\0\5\7\0\1\0\0\0\0\0\0"s},
      {Rules(Protocol::kSocks5, Auth::kAny), kNoAuth + "\5\2\0\1\0\0\0\0\0\0"s, "BIND",
       "\5\0\5\7\0\1\0\0\0\0\0\0"s},
      {Rules(Protocol::kHttp, Auth::kAny), "\5\1\0"s, "SOCKS5 where HTTP CONNECT is required", ""},
      {Rules(Protocol::kHttp, Auth::kAny), "GET http://example.com/ HTTP/1.1\r\n\r\n",
       "HTTP other than CONNECT",
       "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
      {Rules(Protocol::kHttp, Auth::kNone),
       "CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
       "authentication where none is allowed",
       "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
  };
  for (const Case& one : kCases) {
    const Said said = Say(one.rules, one.bytes);
    EXPECT_EQ(said.state, State::kRefused) << one.problem;
    EXPECT_EQ(said.problem, one.problem);
    EXPECT_EQ(said.reply, one.reply) << one.problem;
  }
}

// The caller decides what an address is worth.
TEST(HandshakeCheckTest, TellsAddressesFromNames) {
  for (const std::string& request : {"\5\1\0\1\300\0\2\7\0\120"s, "\5\1\0\3\011192.0.2.7\0\120"s}) {
    const Said said = Say(Rules(Protocol::kSocks5, Auth::kAny), kNoAuth + request);
    EXPECT_EQ(said.state, State::kAsked);
    EXPECT_EQ(said.target.name, "");
    EXPECT_EQ(said.target.address.ip.ToString(), "192.0.2.7");
  }
  const Said http =
      Say(Rules(Protocol::kHttp, Auth::kAny), "CONNECT [2001:db8::1]:80 HTTP/1.1\r\n\r\n");
  EXPECT_EQ(http.state, State::kAsked);
  EXPECT_EQ(http.target.address.ip.ToString(), "2001:db8::1");
}

TEST(HandshakeCheckTest, TakesHttpConnect) {
  const Said said = Say(Rules(Protocol::kHttp, Auth::kPassword, "p+"),
                        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"
                        "proxy-authorization: basic dTpw\r\n\r\nearly");
  EXPECT_EQ(said.state, State::kAsked) << said.problem;
  EXPECT_EQ(said.target.name, "a.example");
  EXPECT_EQ(said.credentials.user, "u");
  EXPECT_EQ(said.credentials.password, "p");
  EXPECT_EQ(said.early, "early");
}

}  // namespace
}  // namespace oakum::agent
