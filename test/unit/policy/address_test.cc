#include "policy/address.h"

#include <gtest/gtest.h>

namespace oakum::policy {
namespace {

IpAddress Ip(std::string_view text) { return IpAddress::Parse(text).value(); }

TEST(AddressTest, ParsesAndPrints) {
  for (const char* text : {"1.2.3.4", "0.0.0.0", "255.255.255.255", "::", "::1", "fd00::1",
                           "2001:db8::ff00:42:8329"}) {
    EXPECT_EQ(Ip(text).ToString(), text);
  }
}

TEST(AddressTest, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "[::1]", "fe80::1%lo",
                           "1.2.3.4/8", "host", ":::", "1.2.3.4 "}) {
    EXPECT_FALSE(IpAddress::Parse(text).has_value()) << text;
  }
  EXPECT_FALSE(IpAddress::Parse(std::string_view("1.2.3.4\0", 8)).has_value());
}

TEST(AddressTest, MappedIsIpv4) {
  EXPECT_EQ(Ip("::ffff:1.2.3.4"), Ip("1.2.3.4"));
  EXPECT_TRUE(Ip("::ffff:1.2.3.4").IsV4());
  EXPECT_FALSE(Ip("::1.2.3.4").IsV4());
}

TEST(AddressTest, UnspecifiedDestinationIsLoopback) {
  EXPECT_EQ(CanonicalDestination(Ip("0.0.0.0")), Ip("127.0.0.1"));
  EXPECT_EQ(CanonicalDestination(Ip("::")), Ip("::1"));
  EXPECT_EQ(CanonicalDestination(Ip("::ffff:0.0.0.0")), Ip("127.0.0.1"));
  EXPECT_EQ(CanonicalDestination(Ip("0.0.0.1")), Ip("0.0.0.1"));
}

TEST(AddressTest, CarriersOfIpv4) {
  EXPECT_EQ(EmbeddedV4(Ip("64:ff9b::10.1.2.3")), Ip("10.1.2.3"));
  EXPECT_EQ(EmbeddedV4(Ip("64:ff9b:1:aaaa:bbbb:cccc:10.1.2.3")), Ip("10.1.2.3"));
  EXPECT_EQ(EmbeddedV4(Ip("2002:0a01:0203::1")), Ip("10.1.2.3"));
  EXPECT_EQ(EmbeddedV4(Ip("::10.1.2.3")), Ip("10.1.2.3"));
  for (const char* text : {"::", "::1", "10.1.2.3", "64:ff9b:2::1", "64:ff9b::1:0:0", "2001:db8::1",
                           "fd00::10.1.2.3"}) {
    EXPECT_EQ(EmbeddedV4(Ip(text)), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace oakum::policy
