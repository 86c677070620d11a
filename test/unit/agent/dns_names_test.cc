// The pool of synthetic addresses, and what real answers bind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <string>
#include <thread>

#include "agent/dns/names.h"
#include "agent/dns/names_file.h"
#include "test/unit/agent/dns_testing.h"

namespace oakum::agent {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string NameOf(size_t i) { return "host" + std::to_string(i) + ".example.com"; }

TEST(DnsNames, SyntheticAddressesAreOfThePoolAndStay) {
  Names names;
  const auto v4 = names.SyntheticV4("example.com");
  const auto v6 = names.SyntheticV6("example.com");
  EXPECT_TRUE(v4.ToString().starts_with("198.18.") || v4.ToString().starts_with("198.19."));
  EXPECT_TRUE(v6.ToString().starts_with("fd6f:616b:756d:0:"));
  EXPECT_EQ(names.SyntheticV4("example.com"), v4);
  EXPECT_EQ(names.SyntheticV6("example.com"), v6);
  EXPECT_NE(names.SyntheticV4("example.org"), v4);
  EXPECT_THAT(names.Of(v4), ElementsAre("example.com"));
  EXPECT_THAT(names.Of(v6), ElementsAre("example.com"));
  // Another agent's container has the same for the same name.
  EXPECT_EQ(Names().SyntheticV4("example.com"), v4);
}

UniqueFd Copy(const UniqueFd& fd) { return UniqueFd(dup(fd.get())); }

TEST(DnsNames, OutliveWhoeverTellsThem) {
  const UniqueFd file = NamesFile::Make();
  ASSERT_TRUE(file.valid());
  policy::IpAddress v4;
  policy::IpAddress v6;
  {
    Names names;
    names.KeepIn(Copy(file));
    v4 = names.SyntheticV4("example.com");
    v6 = names.SyntheticV6("example.com");
    names.Learn("example.org", Ip("192.0.2.1"), seconds(60));
  }
  for (int i = 0; i < 3; ++i) {
    Names names;
    names.KeepIn(Copy(file));
    EXPECT_THAT(names.Of(v4), ElementsAre("example.com"));
    EXPECT_THAT(names.Of(v6), ElementsAre("example.com"));
    EXPECT_THAT(names.Of(Ip("192.0.2.1")), ElementsAre("example.org"));
    EXPECT_EQ(names.SyntheticV4("example.com"), v4);
    // A place that another name has taken by chance stays with it.
    (void)names.SyntheticV4(NameOf(static_cast<size_t>(i)));
  }
}

TEST(DnsNames, WhatIsKeptIsBounded) {
  const UniqueFd file = NamesFile::Make();
  constexpr size_t kCount = 300'000;
  std::map<policy::IpAddress, std::string> last;
  {
    Names names;
    names.KeepIn(Copy(file));
    for (size_t i = 0; i < kCount; ++i) {
      last[names.SyntheticV4(NameOf(i))] = NameOf(i);
    }
  }
  struct stat status = {};
  ASSERT_EQ(fstat(file.get(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, off_t{48} << 20);
  Names names;
  names.KeepIn(Copy(file));
  size_t known = 0;
  for (const auto& [ip, name] : last) {
    const auto found = names.Of(ip);
    known += found.empty() ? 0 : 1;
    EXPECT_TRUE(found.empty() || found.front() == name) << ip.ToString();
  }
  EXPECT_EQ(known, Names::kMaxSynthetic);
}

TEST(DnsNames, AFileOfAnotherKindIsRefused) {
  UniqueFd other(memfd_create("other", MFD_CLOEXEC));
  EXPECT_FALSE(NamesFile::IsOne(other.get()));
  EXPECT_EQ(NamesFile::Open(std::move(other)).error().code, EINVAL);
  UniqueFd later = NamesFile::Make();
  const uint32_t version = NamesFile::kVersion + 1;
  ASSERT_EQ(pwrite(later.get(), &version, sizeof version, 8), 4);
  EXPECT_EQ(NamesFile::Open(Copy(later)).error().code, ENOTSUP);
  Names names;
  names.KeepIn(std::move(later));  // does without
  EXPECT_THAT(names.Of(names.SyntheticV4("example.com")), ElementsAre("example.com"));
}

TEST(DnsNames, AFileThatIsDamagedIsRefused) {
  constexpr off_t kPlaceAt = 16;
  struct Place {
    uint32_t begin;
    uint32_t end;
    bool taken;
  };
  for (const auto& [begin, end, taken] :
       {Place{64, 64, true}, Place{64, 64 + NamesFile::kMaxSize, true},
        Place{64, 65 + NamesFile::kMaxSize, false}, Place{UINT32_MAX - 1, UINT32_MAX, false},
        Place{63, 64, false}, Place{100, 99, false}}) {
    UniqueFd file = NamesFile::Make();
    const std::array<uint32_t, 2> place = {begin, end};
    ASSERT_EQ(pwrite(file.get(), place.data(), sizeof place, kPlaceAt),
              static_cast<ssize_t>(sizeof place));
    ASSERT_EQ(ftruncate(file.get(), off_t{128} << 20), 0);
    const auto opened = NamesFile::Open(std::move(file));
    EXPECT_EQ(opened.has_value(), taken) << begin << ' ' << end;
    EXPECT_TRUE(taken || opened.error().code == EINVAL);
  }
}

TEST(DnsNames, WhoseAddressNobodyHasIsNobody) {
  Names names;
  EXPECT_THAT(names.Of(Ip("198.18.0.0")), IsEmpty());
  auto v6 = names.SyntheticV6("example.com").bytes();
  v6[8] ^= 1;
  EXPECT_THAT(names.Of(policy::IpAddress(v6)), IsEmpty());
  EXPECT_TRUE(Names::IsSynthetic(policy::IpAddress(v6)));
  EXPECT_TRUE(Names::IsSynthetic(Ip("64:ff9b::198.18.0.1")));
  EXPECT_FALSE(Names::IsSynthetic(Ip("198.17.255.255")));
  EXPECT_FALSE(Names::IsSynthetic(Ip("198.20.0.0")));
  EXPECT_FALSE(Names::IsSynthetic(Ip("fd6f:616b:756d:1::1")));
}

// Over many more names than there are addresses: an address has one name at a time, a name that is
// used keeps its address, and what goes is what was used longest ago.
TEST(DnsNames, AMillionNames) {
  constexpr size_t kCount = 1'000'000;
  constexpr size_t kKeptFor = Names::kMaxSynthetic - 2;
  Names names;
  const auto used = names.SyntheticV4("used.example.com");
  std::map<policy::IpAddress, size_t> owner;  // of an address, by what was told last
  for (size_t i = 0; i < kCount; ++i) {
    const auto v4 = names.SyntheticV4(NameOf(i));
    ASSERT_NE(v4, used);
    owner[v4] = i;
    if (i % 1000 == 0) {
      ASSERT_THAT(names.Of(used), ElementsAre("used.example.com")) << i;
    }
  }
  EXPECT_LE(owner.size(), 131'070U);
  size_t found = 0;
  for (const auto& [ip, i] : owner) {
    const auto of = names.Of(ip);
    if (!of.empty()) {
      ASSERT_THAT(of, ElementsAre(NameOf(i)));
      ASSERT_GE(i, kCount - kKeptFor - 1);
      ++found;
    }
  }
  EXPECT_EQ(found, Names::kMaxSynthetic - 1);
}

TEST(DnsNames, LongNamesAreBoundedToo) {
  Names names;
  const std::string tail(200, 'x');
  const auto first = names.SyntheticV4("first");
  for (size_t i = 0; i < Names::kMaxSyntheticBytes / 200; ++i) {
    (void)names.SyntheticV4(std::to_string(i) + tail);
  }
  EXPECT_THAT(names.Of(first), IsEmpty());
}

class LearnedNames : public ::testing::Test {
 protected:
  Names::Clock::time_point now_{};
  Names names_{[this] { return now_; }};
};

TEST_F(LearnedNames, ExpireAfterTheirTtlWithinBounds) {
  const struct {
    seconds ttl;
    seconds kept;
  } cases[] = {{seconds(0), seconds(90)},
               {seconds(-5), seconds(90)},
               {seconds(300), seconds(360)},
               {seconds(86'400), seconds(3660)},
               {seconds::max(), seconds(3660)}};
  for (const auto& each : cases) {
    names_.Learn("example.com", Ip("192.0.2.1"), each.ttl);
    now_ += each.kept - seconds(1);
    EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("example.com")) << each.ttl.count();
    now_ += seconds(1);
    EXPECT_THAT(names_.Of(Ip("192.0.2.1")), IsEmpty()) << each.ttl.count();
  }
}

TEST_F(LearnedNames, TheLastToldComesFirst) {
  names_.Learn("a.example", Ip("192.0.2.1"), seconds(60));
  names_.Learn("b.example", Ip("192.0.2.1"), seconds(60));
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("b.example", "a.example"));
  names_.Learn("a.example", Ip("192.0.2.1"), seconds(60));
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("a.example", "b.example"));
  EXPECT_THAT(names_.Of(Ip("192.0.2.2")), IsEmpty());
}

// A shorter TTL told later does not take back what a longer one has promised.
TEST_F(LearnedNames, ALaterAnswerDoesNotShorten) {
  names_.Learn("a.example", Ip("192.0.2.1"), seconds(600));
  names_.Learn("a.example", Ip("192.0.2.1"), seconds(30));
  now_ += seconds(400);
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), ElementsAre("a.example"));
}

TEST_F(LearnedNames, NoNameBindsTheInside) {
  for (const char* text :
       {"127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255",
        "198.18.0.1", "::", "::1", "fe80::1", "ff02::1", "fd6f:616b:756d::1", "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254", "2002:7f00:1::", "::ffff:127.0.0.1"}) {
    names_.Learn("evil.example", Ip(text), seconds(60));
    EXPECT_THAT(names_.Of(Ip(text)), IsEmpty()) << text;
  }
  names_.Learn("intranet.example", Ip("10.0.0.1"), seconds(60));
  EXPECT_THAT(names_.Of(Ip("10.0.0.1")), ElementsAre("intranet.example"));
  EXPECT_THAT(names_.Of(Ip("::ffff:10.0.0.1")), ElementsAre("intranet.example"));
}

TEST_F(LearnedNames, AreBounded) {
  for (size_t i = 0; i < 100; ++i) {
    names_.Learn(NameOf(i), Ip("192.0.2.1"), seconds(3600));
  }
  const auto of = names_.Of(Ip("192.0.2.1"));
  ASSERT_EQ(of.size(), Names::kMaxNamesOfAddress);
  EXPECT_EQ(of.front(), NameOf(99));
  const auto address = [](size_t i) {
    return policy::IpAddress::FromV4(
        {10, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)});
  };
  for (size_t i = 0; i < 3 * Names::kMaxLearned; ++i) {
    names_.Learn("a.example", address(i), seconds(3600));
  }
  EXPECT_THAT(names_.Of(Ip("192.0.2.1")), IsEmpty());
  EXPECT_THAT(names_.Of(address(2 * Names::kMaxLearned - 1)), IsEmpty());
  EXPECT_THAT(names_.Of(address(2 * Names::kMaxLearned)), ElementsAre("a.example"));
  EXPECT_THAT(names_.Of(address(3 * Names::kMaxLearned - 1)), ElementsAre("a.example"));
}

TEST(DnsNames, AreThreadSafe) {
  Names names;
  const auto work = [&](size_t from) {
    for (size_t i = 0; i < 5000; ++i) {
      const auto ip = names.SyntheticV4(NameOf(from + i));
      EXPECT_THAT(names.Of(ip), ElementsAre(NameOf(from + i)));
      names.Learn(NameOf(i), Ip("192.0.2.1"), seconds(1));
      (void)names.Of(Ip("192.0.2.1"));
    }
  };
  std::thread other(work, 2500);
  work(0);
  other.join();
}

}  // namespace
}  // namespace oakum::agent
