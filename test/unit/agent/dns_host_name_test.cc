#include <gtest/gtest.h>

#include <string>

#include "agent/dns/host_name.h"
#include "test/unit/agent/dns_testing.h"

namespace oakum::agent::dns {
namespace {

TEST(DnsName, HostNamesRoundTrip) {
  for (const char* name : {"a", "www.example.com", "_dmarc.example.com", "xn--bcher-kva.example"}) {
    EXPECT_EQ(HostName(Wire(name)), name);
    EXPECT_TRUE(IsHostName(name));
  }
  for (const char* name : {"", ".", "a.", ".a", "a..b", "A.b", "a b", "a:b"}) {
    EXPECT_FALSE(IsHostName(name)) << name;
  }
  EXPECT_FALSE(HostName(std::string("\0\0", 2)));
  EXPECT_FALSE(
      HostName("\x01"
               "a"));
}

TEST(DnsName, ReverseNamesRoundTrip) {
  for (const char* text : {"198.18.0.1", "10.0.0.255", "fd6f:616b:756d::1", "2001:db8::abcd"}) {
    EXPECT_EQ(ReverseAddress(ReverseName(Ip(text))), Ip(text)) << text;
  }
  EXPECT_EQ(ReverseName(Ip("192.0.2.1")), "1.2.0.192.in-addr.arpa");
  for (const char* name :
       {"in-addr.arpa", ".in-addr.arpa", "1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa",
        "256.2.3.4.in-addr.arpa", "01.2.3.4.in-addr.arpa", "1..3.4.in-addr.arpa",
        "1.2.3.x.in-addr.arpa", "1.2.3.4.in-addr.arp", "ip6.arpa", "1.0.ip6.arpa"}) {
    EXPECT_FALSE(ReverseAddress(name)) << name;
  }
}

}  // namespace
}  // namespace oakum::agent::dns
