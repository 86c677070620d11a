#include "agent/proxy/kept_names.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/kept/fd_store.h"

namespace oakum::agent {
namespace {

const policy::Endpoint kAsked = {*policy::IpAddress::Parse("2001:db8::1:7"), 65'443};
constexpr uint64_t kSession = 0xfedc'ba98'7654'3210;
constexpr uint64_t kBiggest = (uint64_t{1} << 56) - 1;

TEST(KeptNamesTest, SayWhatIsToBeKnown) {
  const std::string name = EncodeRelayName({kSession, kBiggest, 7, kAsked});
  EXPECT_LT(name.size(), kMaxKeptName);
  EXPECT_TRUE(name.starts_with(kKeptRelayPrefix));
  EXPECT_EQ(name.find(':'), std::string::npos);  // sd_pid_notify_with_fds(3), FDNAME
  const auto relay = DecodeRelayName(name);
  ASSERT_TRUE(relay.has_value());
  EXPECT_EQ(relay->session, kSession);
  EXPECT_EQ(relay->near, kBiggest);
  EXPECT_EQ(relay->client, 7U);
  EXPECT_EQ(relay->asked, kAsked);
  EXPECT_FALSE(DecodeHeldName(name));

  const std::string waits = EncodeHeldName({kSession, kBiggest, 1 << 22, 1 << 20, kAsked});
  EXPECT_LT(waits.size(), kMaxKeptName);
  const auto held = DecodeHeldName(waits);
  ASSERT_TRUE(held.has_value());
  EXPECT_EQ(held->session, kSession);
  EXPECT_EQ(held->client, kBiggest);
  EXPECT_EQ(held->tgid, 1 << 22);
  EXPECT_EQ(held->number, 1 << 20);
  EXPECT_EQ(held->asked, kAsked);
  EXPECT_FALSE(DecodeRelayName(waits));

  const std::string leads = EncodeGateName({kSession, kBiggest, kAsked, true});
  EXPECT_LT(leads.size(), kMaxKeptName);
  EXPECT_TRUE(leads.starts_with(kKeptRelayPrefix));
  const auto gate = DecodeGateName(leads);
  ASSERT_TRUE(gate.has_value());
  EXPECT_EQ(gate->session, kSession);
  EXPECT_EQ(gate->gate, kBiggest);
  EXPECT_EQ(gate->destination, kAsked);
  EXPECT_TRUE(gate->resolver);
  EXPECT_FALSE(DecodeRelayName(leads));
  EXPECT_FALSE(DecodeHeldName(leads));
  EXPECT_FALSE(DecodeGateName(name));
  EXPECT_FALSE(DecodeGateName(waits));
}

TEST(KeptNamesTest, WhatDoesNotFitHasNone) {
  EXPECT_EQ(EncodeRelayName({kSession, kBiggest + 1, 7, kAsked}), "");
  EXPECT_EQ(EncodeRelayName({kSession, 7, kBiggest + 1, kAsked}), "");
  EXPECT_EQ(EncodeRelayName({0, 7, 8, kAsked}), "");
  EXPECT_EQ(EncodeHeldName({kSession, 7, 0, 3, kAsked}), "");
  EXPECT_EQ(EncodeHeldName({kSession, 7, 1, -1, kAsked}), "");
}

TEST(KeptNamesTest, NonsenseIsNone) {
  const std::string name = EncodeRelayName({kSession, 1, 2, kAsked});
  for (const std::string& bad :
       {std::string(), std::string("relay-"), "session-" + name, name.substr(0, name.size() - 1),
        name + "A", std::string("relay-") + std::string(56, '!'),
        std::string("relay-") + std::string(56, 'A')}) {
    EXPECT_FALSE(DecodeRelayName(bad)) << bad;
    EXPECT_FALSE(DecodeHeldName(bad)) << bad;
    EXPECT_FALSE(DecodeGateName(bad)) << bad;
  }
  EXPECT_EQ(SessionOfName("session-fedcba9876543210"), kSession);
  for (const char* bad : {"", "session-", "session-xyz", "relay-1", "session-1 "}) {
    EXPECT_EQ(SessionOfName(bad), 0U) << bad;
  }
}

}  // namespace
}  // namespace oakum::agent
