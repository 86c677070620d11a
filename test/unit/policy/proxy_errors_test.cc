// What a wrong proxy, redirect, "dns" or "handshake" gets: what is wrong, and what would be right.
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::ErrorOf;
using testing::InPolicy;
using testing::MustParse;
using testing::OnePolicy;
using testing::WithoutPlace;

std::string WithProxy(std::string_view proxy, std::string_view members = R"("mode": "enforce")") {
  return R"({"version": 1, "proxies": {"x": )" + std::string(proxy) + R"(}, "policies": {"p": {)" +
         std::string(members) + "}}}";
}

std::string InProxy(std::string_view proxy) { return WithoutPlace(ErrorOf(WithProxy(proxy))); }

TEST(ProxyErrorsTest, Redirect) {
  EXPECT_EQ(InPolicy(R"("outgoing": {"default": "redirect"})"),
            "outgoing.default \"redirect\" needs a \"proxy\" in the same policy");
  EXPECT_EQ(InPolicy(R"("outgoing": {"redirect": ["*:80"]})"),
            "\"*:80\" goes through no proxy; add \"proxy\" to the policy, or \" via NAME\" to the "
            "rule");
  EXPECT_EQ(InPolicy(R"("outgoing": {"redirect": ["*:80 via tro"]})"),
            "there is no proxy \"tro\"; did you mean \"tor\"?");
  EXPECT_NE(InPolicy(R"("outgoing": {"allow": ["*:80 via tor"]})").find("\"via\" belongs to"),
            std::string::npos);
  EXPECT_EQ(InPolicy(R"("proxy": "tor", "outgoing": {"redirect": ["10.88.0.1:9050"]})"),
            "\"outgoing.redirect 10.88.0.1:9050\" (line 1) redirects the policy's own proxy "
            "\"tor\"");
  MustParse(OnePolicy(R"("outgoing": {"redirect": ["*:80 via tor"]})"));
  MustParse(OnePolicy(R"("proxy": "tor", "outgoing": {"redirect": ["*:80"]})"));
  MustParse(OnePolicy(R"("proxy": "tor", "outgoing": {"default": "redirect"})"));
}

TEST(ProxyErrorsTest, ErrorsHaveTheirPlace) {
  EXPECT_EQ(ErrorOf("{\"version\": 1, \"policies\": {\"p\": {\"mode\": \"enforce\",\n"
                    "\"outgoing\": {\"default\": \"redirect\"}}}}"),
            "test.json:2:25: outgoing.default \"redirect\" needs a \"proxy\" in the same policy");
  EXPECT_EQ(
      ErrorOf("{\"version\": 1, \"policies\": {\"p\": {\"mode\": \"enforce\", \"dns\": \"allow\",\n"
              "\"outgoing\": {\"allow\": [\"a.b\",\n\"m\xc3\xbcnchen.de\"]}}}}"),
      "test.json:3:2: in the rule \"m\xc3\xbcnchen.de\" of \"outgoing.allow\": "
      "\"m\xc3\xbcnchen.de\": write an international name as DNS has it, as in "
      "\"xn--mnchen-3ya.de\"");
}

TEST(ProxyErrorsTest, Names) {
  const std::string suffix =
      " is a rule for a name: it needs to see what the container is told for it; write \"dns\": "
      "\"allow\", or \"proxy\"";
  EXPECT_EQ(InPolicy(R"("outgoing": {"allow": ["*.example.com:443"]})"),
            "\"*.example.com:443\"" + suffix);
  EXPECT_EQ(InPolicy(R"("outgoing": {"default": "allow", "deny": ["a.b"]})"), "\"a.b\"" + suffix);
  EXPECT_EQ(InPolicy(R"("dns": "deny", "outgoing": {"redirect": ["a.b via tor"]})"),
            "\"a.b via tor\"" + suffix);
  EXPECT_EQ(InPolicy(R"("incoming": {"allow": ["*:80 from example.com"]})"),
            "\"*:80 from example.com\": incoming rules are for addresses, and \"example.com\" is a "
            "name");
  MustParse(OnePolicy(R"("dns": "allow", "outgoing": {"allow": ["*.example.com:443"]})"));
  MustParse(OnePolicy(R"("proxy": "tor", "dns": "proxy", "outgoing": {"allow": ["a.b"]})"));
  MustParse(OnePolicy(R"("proxy": "tor", "outgoing": {"default": "redirect", "deny": ["a.b"]})"));
}

TEST(ProxyErrorsTest, Proxies) {
  EXPECT_EQ(
      InProxy(R"({"url": "socks5://u:p@10.0.0.1:1", "isolate": "process"})"),
      "\"isolate\" makes user and password up, and \"socks5://10.0.0.1:1\" is written with its "
      "own; leave one of the two out");
  EXPECT_EQ(InProxy(R"({"url": "socks5://10.0.0.1:1", "credentials": "tor"})"),
            "\"credentials\" says how isolating credentials look; it needs \"isolate\"");
  EXPECT_EQ(
      InProxy(R"({"url": "socks5://10.0.0.1:1", "isolate": "process", "credentials": "tro"})"),
      "\"tro\" is no value of \"credentials\"; did you mean \"tor\"?");
  EXPECT_EQ(InProxy(R"({"url": "socks5://10.0.0.1:1", "from": "hots"})"),
            "\"hots\" is no value of \"from\"; did you mean \"host\"?");
  EXPECT_EQ(InProxy(R"({"url": "socks5://10.0.0.1:1", "ca": "/x"})"),
            "\"ca\" is about TLS; write a URL with \"https\" or \"socks5h+tls\"");
  EXPECT_EQ(InProxy(R"({"url": "https://10.0.0.1:1", "ca": "x"})"),
            "\"x\" is not the absolute path of a PEM file");
  EXPECT_EQ(InProxy(R"({"url": "https://10.0.0.1:1", "server_name": ""})"),
            "\"server_name\" has 1 to 253 bytes");
  for (const char* timeout : {"0", "3601", "1.5", "-1", "99999999999"}) {
    EXPECT_EQ(InProxy(R"({"url": "https://10.0.0.1:1", "timeout": )" + std::string(timeout) + "}"),
              "\"timeout\" is a whole number of seconds, 1 to 3600")
        << timeout;
  }
  EXPECT_EQ(InProxy(R"({"url": "https://10.0.0.1:1", "timeout": "1"})"),
            "\"timeout\" must be a number, not a string");
  const auto set = MustParse(WithProxy(
      R"({"url": ["https://proxy.example.com:3128", "socks5h+tls://[fd00::1]:1"], "from": "host",
          "isolate": "destination", "credentials": "tor", "ca": "/etc/ca.pem",
          "server_name": "proxy", "timeout": 7})",
      R"("mode": "enforce", "proxy": "x", "outgoing": {"default": "redirect"})"));
  const Proxy& proxy = *set->Find("p")->proxy();
  EXPECT_EQ(proxy.name, "x");
  ASSERT_EQ(proxy.urls.size(), 2U);
  EXPECT_EQ(proxy.urls[0].host, "proxy.example.com");
  EXPECT_EQ(proxy.urls[0].port, 3128);
  EXPECT_TRUE(proxy.urls[1].tls);
  EXPECT_EQ(proxy.from, ProxyFrom::kHost);
  EXPECT_EQ(proxy.isolate, Isolation::kDestination);
  EXPECT_EQ(proxy.format, CredentialFormat::kTor);
  EXPECT_EQ(proxy.ca_file, "/etc/ca.pem");
  EXPECT_EQ(proxy.server_name, "proxy");
  EXPECT_EQ(proxy.timeout, std::chrono::seconds(7));
}

TEST(ProxyErrorsTest, PasswordsAreNeverShown) {
  for (const char* proxy :
       {R"({"url": "socks5://me:secret@10.0.0.1:1", "isolate": "process"})",
        R"({"url": "socks5://me:secret@10.0.0.1:x"})",
        R"({"url": "socks6://me:secret@10.0.0.1:1"})", R"({"url": "socks5://me:secret@0.0.0.0:1"})",
        R"({"url": "socks5://me:sec%ret@10.0.0.1:1"})", R"({"url": "me:secret@10.0.0.1:1"})",
        R"({"url": "socks5:me:secret@10.0.0.1:1"})"}) {
    const std::string error = InProxy(proxy);
    EXPECT_NE(error, "(loaded)") << proxy;
    EXPECT_EQ(error.find("sec"), std::string::npos) << error;
  }
}

TEST(ProxyErrorsTest, Dns) {
  EXPECT_EQ(InPolicy(R"("dns": "proxy")"), "dns \"proxy\" needs a \"proxy\" in the same policy");
  EXPECT_EQ(InPolicy(R"("dns": "allow", "resolve": "tor")"),
            "\"resolve\" says how \"dns\": \"proxy\" answers; add that, or leave \"resolve\" out");
  EXPECT_EQ(InPolicy(R"("proxy": "tor", "dns": "proxy", "resolve": "synthtic")"),
            "\"synthtic\" is no value of \"resolve\"; did you mean \"synthetic\"?");
  EXPECT_EQ(InPolicy(R"("proxy": "tor", "dns": "proxy", "resolve": "tcp://1.2.3.4")"),
            "no port in \"1.2.3.4\"; write HOST:PORT");
  EXPECT_EQ(InPolicy(R"("dns": "deny", "resolvers": [])"),
            "\"resolvers\" are whose answers \"dns\": \"allow\" watches; add that, or leave "
            "\"resolvers\" out");
  EXPECT_EQ(InPolicy(R"("dns": "allow", "resolvers": ["dns.example"])"),
            "\"dns.example\" is not the address of a name server, as in \"10.0.0.53\" or "
            "\"[fd00::53]\"");
  EXPECT_EQ(WithoutPlace(ErrorOf(
                WithProxy(R"({"url": "http://10.0.0.1:1"})",
                          R"("mode": "audit", "proxy": "x", "dns": "proxy", "resolve": "tor")"))),
            "\"resolve\" \"tor\" is an extension of SOCKS5, and the proxy \"x\" has a URL with "
            "\"http\"");
}

TEST(ProxyErrorsTest, DnsSettings) {
  const auto dns = [](std::string_view members) {
    return MustParse(OnePolicy(members))->Find("p")->dns();
  };
  EXPECT_EQ(dns("").rule, DnsRule::kDeny);
  EXPECT_EQ(dns(R"("outgoing": {"default": "allow"})").rule, DnsRule::kFollow);
  // Names are carried where everything is.
  const DnsSettings carried = dns(R"("proxy": "tor", "outgoing": {"default": "redirect"})");
  EXPECT_EQ(carried.rule, DnsRule::kProxy);
  EXPECT_EQ(carried.resolve, Resolve::kSynthetic);
  EXPECT_EQ(dns(R"("proxy": "tor", "dns": "deny", "outgoing": {"default": "redirect"})").rule,
            DnsRule::kDeny);
  EXPECT_EQ(dns(R"("proxy": "tor", "dns": "proxy", "resolve": "tor")").resolve, Resolve::kTor);
  const DnsSettings server =
      dns(R"("proxy": "tor", "dns": "proxy", "resolve": "tcp://[fd00::53]:5353")");
  EXPECT_EQ(server.resolve, Resolve::kServer);
  ASSERT_TRUE(server.server.has_value());
  EXPECT_EQ(server.server->ip, testing::Ip("fd00::53"));
  EXPECT_EQ(server.server->port, 5353);
  const DnsSettings named = dns(R"("proxy": "tor", "dns": "proxy", "resolve": "tcp://dns.a:53")");
  EXPECT_FALSE(named.server.has_value());
  EXPECT_EQ(named.server_name, "dns.a");
  EXPECT_EQ(named.server_port, 53);
  const DnsSettings watched = dns(R"("dns": "allow", "resolvers": ["10.0.0.53", "[fd00::53]"])");
  ASSERT_EQ(watched.resolvers.size(), 2U);
  EXPECT_EQ(watched.resolvers[0], testing::Ip("10.0.0.53"));
  EXPECT_EQ(watched.resolvers[1], testing::Ip("fd00::53"));
}

TEST(ProxyErrorsTest, Handshake) {
  const auto with = [](std::string_view url, std::string_view handshake) {
    return WithoutPlace(ErrorOf(
        WithProxy(R"({"url": ")" + std::string(url) + "\"}",
                  R"("mode": "enforce", "proxy": "x", "handshake": )" + std::string(handshake))));
  };
  constexpr std::string_view kSocks = R"({"require": "socks5"})";
  EXPECT_EQ(with("socks5://10.0.0.1:1", kSocks), "(loaded)");
  EXPECT_EQ(with("http://10.0.0.1:1", R"({"require": "http", "auth": "password"})"), "(loaded)");
  EXPECT_EQ(with("socks5+tls://10.0.0.1:1", kSocks),
            "\"handshake\" cannot look into the TLS of \"socks5+tls://10.0.0.1:1\"");
  EXPECT_EQ(with("http://10.0.0.1:1", kSocks),
            "\"require\" is \"socks5\", and \"http://10.0.0.1:1\" speaks something else");
  for (const char* url : {"socks5://proxy.example:1", "socks5+unix:///run/x"}) {
    EXPECT_EQ(with(url, kSocks),
              "\"handshake\" looks at connections to the address of the proxy, and \"" +
                  std::string(url) + "\" has none; write SCHEME://ADDRESS:PORT");
  }
  EXPECT_EQ(
      with("socks5://10.0.0.1:1", R"({"require": "socks5", "auth": "none", "isolation": "a"})"),
      "\"isolation\" is about the password, and \"auth\" is \"none\"");
  EXPECT_EQ(with("http://10.0.0.1:1", R"({"require": "http", "auth": "tor"})"),
            "\"auth\" \"tor\" is a format of socks5");
  EXPECT_EQ(InPolicy(R"("proxy": "tor", "handshake": {"require": "socks5"},
                        "outgoing": {"allow": ["10.88.0.1:9050/tcp"]})"),
            "\"outgoing.allow 10.88.0.1:9050/tcp\" (line 2) allows the policy's own proxy \"tor\" "
            "without its \"handshake\"; leave the rule out");
  const auto set = MustParse(OnePolicy(
      R"("proxy": "tor",
         "handshake": {"require": "socks5", "auth": "tor", "isolation": "^[a-z]+$"})"));
  const HandshakeRules* rules = set->Find("p")->handshake();
  ASSERT_NE(rules, nullptr);
  EXPECT_EQ(rules->require, HandshakeRules::Protocol::kSocks5);
  EXPECT_EQ(rules->auth, HandshakeRules::Auth::kTor);
  EXPECT_TRUE(rules->isolation->Matches("abc"));
  EXPECT_FALSE(rules->isolation->Matches("abc1"));
}

}  // namespace
}  // namespace oakum::policy
