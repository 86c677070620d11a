#include "policy/rule_text.h"

#include <gtest/gtest.h>

#include <string>

#include "policy/proxy_url.h"

namespace oakum::policy {
namespace {

// A rule in one canonical line: "4 10.0.0.0/8 443-443 tcp from any".
std::string Canonical(std::string_view text, RuleKind kind = RuleKind::kIncoming) {
  const auto rule = ParseRule(text, kind);
  if (!rule) {
    return std::to_string(rule.error().offset) + ": " + rule.error().what;
  }
  const auto prefix = [](const Prefix& p) {
    return p.family == Family::kAny ? std::string("any")
                                    : (p.family == Family::kV4 ? "4 " : "6 ") +
                                          p.address.ToString() + "/" + std::to_string(p.length);
  };
  std::string out = rule->domain.empty() ? prefix(rule->host) : "name " + std::string(rule->domain);
  for (const PortRange& range : rule->ports) {
    out += " " + std::to_string(range.first) + "-" + std::to_string(range.last);
  }
  if (rule->names_dns) {
    out += " dns";
  }
  if (rule->transport) {
    out += *rule->transport == Transport::kTcp ? " tcp" : " udp";
  }
  if (rule->from) {
    out += " from " + (rule->from_domain.empty() ? prefix(*rule->from)
                                                 : "name " + std::string(rule->from_domain));
  }
  return out;
}

TEST(RuleTextTest, Parses) {
  EXPECT_EQ(Canonical("10.1.2.3"), "4 10.1.2.3/32");
  EXPECT_EQ(Canonical("10.0.0.0/8"), "4 10.0.0.0/8");
  EXPECT_EQ(Canonical("0.0.0.0/0"), "4 0.0.0.0/0");
  EXPECT_EQ(Canonical("10.0.0.0/8:443/tcp"), "4 10.0.0.0/8 443-443 tcp");
  EXPECT_EQ(Canonical("10.0.0.1/udp"), "4 10.0.0.1/32 udp");
  EXPECT_EQ(Canonical("*"), "any");
  EXPECT_EQ(Canonical("*:53/udp"), "any 53-53 dns udp");
  EXPECT_EQ(Canonical("[::1]"), "6 ::1/128");
  EXPECT_EQ(Canonical("[fd00::/8]:80"), "6 fd00::/8 80-80");
  EXPECT_EQ(Canonical("[::/0]/tcp"), "6 ::/0 tcp");
  EXPECT_EQ(Canonical("[::ffff:10.0.0.0/104]"), "4 10.0.0.0/8");
  EXPECT_EQ(Canonical("[::ffff:1.2.3.4]"), "4 1.2.3.4/32");
  EXPECT_EQ(Canonical("[64:ff9b::/96]"), "6 64:ff9b::/96");
  EXPECT_EQ(Canonical("example.com:443"), "name example.com 443-443");
  EXPECT_EQ(Canonical("*.example.com/tcp"), "name *.example.com tcp");
  EXPECT_EQ(Canonical("*:8080 from 10.0.0.0/8"), "any 8080-8080 from 4 10.0.0.0/8");
  EXPECT_EQ(Canonical("*/tcp from [fd00::/8]"), "any tcp from 6 fd00::/8");
  EXPECT_EQ(Canonical("* from *"), "any from any");
  EXPECT_EQ(Canonical("* from example.com"), "any from name example.com");
}

TEST(RuleTextTest, PortsAreSortedAndMerged) {
  EXPECT_EQ(Canonical("*:443,80,81,8000-8999,8500-9000"), "any 80-81 443-443 8000-9000");
  EXPECT_EQ(Canonical("*:1-65535"), "any 1-65535");
  EXPECT_EQ(Canonical("*:53-53"), "any 53-53 dns");
  EXPECT_EQ(Canonical("*:50-60,53"), "any 50-60 dns");
  EXPECT_EQ(Canonical("*:50-60"), "any 50-60");
}

TEST(RuleTextTest, Refuses) {
  EXPECT_EQ(Canonical(""), "0: an empty rule; a rule is HOST[:PORTS][/PROTOCOL]");
  EXPECT_EQ(Canonical("::1"),
            "0: \"::1\": an IPv6 address stands in brackets, as in \"[fd00::1]:443\" or "
            "\"[fd00::/8]\"");
  EXPECT_EQ(Canonical("10.1.2.3/8"),
            "0: \"10.1.2.3\" has bits set beyond its prefix; did you mean \"10.0.0.0/8\"?");
  EXPECT_EQ(Canonical("10.0.0.0/33"), "0: \"/33\" is not a prefix length; 0 to 32 are");
  EXPECT_EQ(Canonical("10.0.0.0/08"), "0: \"/08\" is not a prefix length; 0 to 32 are");
  EXPECT_EQ(Canonical("[fd00::/129]"), "1: \"/129\" is not a prefix length; 0 to 128 are");
  EXPECT_EQ(Canonical("[fd00::]/8"),
            "8: the prefix length stands inside the brackets: \"[fd00::/8]\"");
  EXPECT_EQ(Canonical("[10.0.0.1]"), "1: \"10.0.0.1\" is not an IPv6 address");
  EXPECT_EQ(Canonical("[fe80::1%eth0]"), "1: a scope (%) cannot be part of a rule");
  EXPECT_EQ(Canonical("[::1"), "0: \"[\" without \"]\"");
  EXPECT_EQ(Canonical("10.0.0.1:"), "9: no port after \":\"");
  EXPECT_EQ(Canonical("10.0.0.1:/tcp"), "9: no port after \":\"");
  EXPECT_EQ(Canonical("10.0.0.1:80,"),
            "12: \"\" is neither a port (1 to 65535) nor a range such as \"8000-8999\"");
  for (const char* port :
       {"0", "65536", "-1", "1-", "-", "80-70000", "080", "http", "1-2-3", "+1"}) {
    EXPECT_NE(Canonical(std::string("10.0.0.1:") + port).find(" is neither a port"),
              std::string::npos)
        << port;
  }
  EXPECT_EQ(Canonical("10.0.0.1:90-80"), "9: \"90-80\" runs backwards; did you mean \"80-90\"?");
  EXPECT_EQ(Canonical("10.0.0.1:80/tpc"), "11: unknown protocol \"tpc\"; did you mean \"tcp\"?");
  EXPECT_EQ(Canonical("10.0.0.1/icmp"), "8: unknown protocol \"icmp\"; known are \"tcp\", \"udp\"");
  EXPECT_EQ(Canonical("10.0.0.1/tcp/udp"),
            "12: \"/udp\" is left over; a rule is HOST[:PORTS][/PROTOCOL][ from HOST]");
  EXPECT_EQ(Canonical("10.0.0.1 :80"), "8: no spaces in a rule");
  EXPECT_EQ(Canonical("* from "), "7: no address after \"from\"");
  EXPECT_EQ(Canonical("*  from 10.0.0.1"), "1: no spaces in a rule");
  EXPECT_EQ(Canonical("* from 10.0.0.1:80"),
            "15: \":80\" is left over; a rule is HOST[:PORTS][/PROTOCOL][ from HOST]");
  EXPECT_EQ(Canonical("* from 10.0.0.1", RuleKind::kOutgoing),
            "1: \"from\" belongs to incoming rules");
  for (const char* host : {"1.2.3", "1.2.3.4.5", "-", "a..b", ".a", "*x", "*.*.com", "a b",
                           "1.2.3.x/8", "ex\xc3\xa4mple.com", "*."}) {
    EXPECT_NE(Canonical(host).find(": "), std::string::npos) << host << " " << Canonical(host);
  }
}

TEST(RuleTextTest, Via) {
  const auto rule = ParseRule("*.onion:80,443/tcp via tor", RuleKind::kRedirect);
  ASSERT_TRUE(rule.has_value());
  EXPECT_EQ(rule->domain, "*.onion");
  EXPECT_EQ(rule->via, "tor");
  EXPECT_EQ(ParseRule("[fd00::/8] via a.b", RuleKind::kRedirect)->via, "a.b");
  EXPECT_EQ(ParseRule("*", RuleKind::kRedirect)->via, "");
  EXPECT_EQ(Canonical("* via tor", RuleKind::kOutgoing),
            "1: \"via\" belongs to \"redirect\" rules: they alone go through a proxy");
  EXPECT_EQ(Canonical("* via tor", RuleKind::kIncoming),
            "1: \"via\" belongs to \"redirect\" rules: they alone go through a proxy");
  EXPECT_EQ(Canonical("* via ", RuleKind::kRedirect), "6: no proxy after \"via\"");
  EXPECT_EQ(Canonical("* via a b", RuleKind::kRedirect),
            "7: \" b\" is left over; a rule is HOST[:PORTS][/PROTOCOL][ via PROXY]");
}

TEST(RuleTextTest, PortListsAreBounded) {
  std::string text = "*:1";
  for (size_t i = 1; i < kMaxPortItems; ++i) {
    text += ",1";
  }
  EXPECT_EQ(Canonical(text), "any 1-1");
  EXPECT_NE(Canonical(text + ",1").find("more than 256 ports"), std::string::npos);
}

std::string Proxy(std::string_view text) {
  const auto url = ParseProxyUrl(text);
  if (!url) {
    return url.error();
  }
  std::string out = std::to_string(static_cast<int>(url->scheme)) + " ";
  out += url->endpoint ? url->endpoint->ip.ToString() + " " + std::to_string(url->endpoint->port)
         : !url->unix_path.empty() ? url->unix_path
                                   : url->host + " " + std::to_string(url->port);
  return url->user.empty() ? out : out + " " + url->user + ":" + url->password;
}

TEST(ProxyUrlTest, Parses) {
  EXPECT_EQ(Proxy("socks5://10.0.0.1:1080"), "0 10.0.0.1 1080");
  EXPECT_EQ(Proxy("socks5h://[fd00::1]:9050/"), "1 fd00::1 9050");
  EXPECT_EQ(Proxy("http://me:p%40ss@10.0.0.1:3128"), "2 10.0.0.1 3128 me:p@ss");
  EXPECT_EQ(Proxy("https://a@b:c@proxy.example.com:443"), "3 proxy.example.com 443 a@b:c");
  EXPECT_EQ(Proxy("socks5h+unix:///run/tor/socks"), "1 /run/tor/socks");
  EXPECT_EQ(Proxy("http+unix://me:p%40ss@/run/a@/b"), "2 /run/a@/b me:p@ss");
  EXPECT_EQ(Proxy("http+unix:///run/a@b"), "2 /run/a@b");
}

TEST(ProxyUrlTest, Tls) {
  for (const auto& [text, tls, http] :
       std::vector<std::tuple<std::string_view, bool, bool>>{{"socks5://10.0.0.1:1", false, false},
                                                             {"socks5+tls://a.b:1", true, false},
                                                             {"socks5h+tls://[::1]:1", true, false},
                                                             {"http://10.0.0.1:1", false, true},
                                                             {"https://10.0.0.1:1", true, true}}) {
    const auto url = ParseProxyUrl(text);
    ASSERT_TRUE(url.has_value()) << text << ": " << url.error();
    EXPECT_EQ(url->tls, tls) << text;
    EXPECT_EQ(url->speaks_http(), http) << text;
    EXPECT_EQ(url->ToString(), text);
  }
}

TEST(ProxyUrlTest, IsShownWithoutCredentials) {
  for (const auto& [text, shown] : std::vector<std::pair<std::string_view, std::string_view>>{
           {"socks5h://me:secret@[fd00::1]:9050/", "socks5h://[fd00::1]:9050"},
           {"https://me:secret@proxy.example.com:443", "https://proxy.example.com:443"},
           {"socks5+unix:///run/proxy", "socks5+unix:///run/proxy"}}) {
    const auto url = ParseProxyUrl(text);
    ASSERT_TRUE(url.has_value()) << text;
    EXPECT_EQ(url->ToString(), shown);
  }
}

TEST(ProxyUrlTest, Refuses) {
  EXPECT_EQ(Proxy("10.0.0.1:1080"),
            "a proxy is SCHEME://HOST:PORT, as in \"socks5h://10.88.0.1:9050\"");
  EXPECT_EQ(Proxy("sock5://10.0.0.1:1"), "unknown scheme \"sock5\"; did you mean \"socks5\"?");
  EXPECT_EQ(Proxy("ftp://10.0.0.1:1"),
            "unknown scheme \"ftp\"; known are \"socks5\", \"socks5h\", \"http\", \"https\", "
            "\"socks5+tls\", \"socks5h+tls\"");
  EXPECT_EQ(Proxy("http+tls://10.0.0.1:1"), "\"http+tls\" is written \"https\"");
  EXPECT_EQ(Proxy("https+unix:///run/x"),
            "a unix socket is reached without TLS; write http+unix:///PATH");
  EXPECT_EQ(Proxy("socks5://10.0.0.1"), "no port in \"10.0.0.1\"; write HOST:PORT");
  EXPECT_EQ(Proxy("socks5://[::1]"), "no port in \"[::1]\"; write HOST:PORT");
  EXPECT_EQ(Proxy("socks5://10.0.0.1:0"), "\"0\" is not a port; 1 to 65535 are");
  EXPECT_EQ(Proxy("socks5://10.0.0.1:x"),
            "what stands after the last \":\" is not a port; 1 to 65535 are");
  EXPECT_EQ(Proxy("socks5://0.0.0.0:1"),
            "\"0.0.0.0\" is no address to connect to; did you mean \"127.0.0.1\"?");
  EXPECT_EQ(Proxy("socks5://fd00::1:9050"),
            "\"fd00::1\" is neither an address nor a name; an IPv6 address stands in brackets");
  EXPECT_EQ(Proxy("socks5://1.2.3:80"), "\"1.2.3\" is neither an address nor a name");
  EXPECT_EQ(Proxy("socks5://[10.0.0.1]:80"), "\"10.0.0.1\" is neither an address nor a name");
  EXPECT_EQ(Proxy("socks5://a:%zz@10.0.0.1:80"),
            "\"%\" in the user or password stands before two hexadecimal digits");
  EXPECT_EQ(Proxy("socks5://:p@10.0.0.1:80"),
            "user and password have at most 255 bytes, the user at least one");
  for (const char* text : {"socks5+unix://run/x", "socks5+unix://me:p@run/x", "socks5+unix:///"}) {
    EXPECT_EQ(Proxy(text), "no absolute path of at most 107 bytes; write socks5+unix:///PATH");
  }
}

}  // namespace
}  // namespace oakum::policy
