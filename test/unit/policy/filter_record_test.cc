#include "policy/filter_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "policy/container.h"
#include "policy/plan.h"
#include "policy/policy_set.h"

namespace oakum::policy {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

FilterRecord Record(const std::string& policy) {
  const auto policies = PolicySet::Parse(
      R"({"version": 1, "proxies": {"x": {"url": "socks5h://127.0.0.1:9050"}}, "policies": {"p": )" +
          policy + "}}",
      "t");
  EXPECT_TRUE(policies) << policies.error().what;
  return RecordOf(Plan(*(*policies)->Find("p")));
}

const char kPlain[] = R"({"mode": "enforce", "outgoing": {"default": "deny"}, "dns": "allow"})";
const char kNoNames[] = R"({"mode": "enforce", "outgoing": {"default": "deny"}, "dns": "deny"})";
const char kIncoming[] = R"({"mode": "enforce", "outgoing": {"default": "deny"}, "dns": "allow",
    "incoming": {"default": "deny", "allow": ["* from 10.0.0.0/8"]}})";
const char kAudit[] = R"({"mode": "audit", "outgoing": {"default": "deny"}, "dns": "allow"})";
const char kRedirect[] =
    R"({"mode": "enforce", "proxy": "x", "outgoing": {"default": "redirect"}, "dns": "proxy"})";
const char kStrict[] = R"({"mode": "enforce", "outgoing": {"default": "deny"}, "dns": "allow",
    "syscalls": {"base": "strict"}})";

TEST(FilterRecordTest, TheSamePlanHasNoGap) {
  for (const char* policy : {kPlain, kIncoming, kAudit, kRedirect, kStrict}) {
    EXPECT_TRUE(FindGaps(Record(policy), Record(policy)).empty()) << policy;
  }
}

TEST(FilterRecordTest, WhatAnOlderFilterDoesNotAskAboutIsNamed) {
  EXPECT_THAT(FindGaps(Record(kPlain), Record(kIncoming)).unseen,
              ElementsAre("accept", "accept4", "bind", "listen"));
  EXPECT_THAT(FindGaps(Record(kNoNames), Record(kRedirect)).unseen,
              ElementsAre("getpeername", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg"));
  EXPECT_TRUE(FindGaps(Record(kNoNames), Record(kRedirect)).refused.empty());
}

TEST(FilterRecordTest, AFilterThatAsksAboutMoreIsNoGap) {
  EXPECT_TRUE(FindGaps(Record(kIncoming), Record(kPlain)).empty());
  EXPECT_TRUE(FindGaps(Record(kRedirect), Record(kPlain)).empty());
}

// Rings that a program has made under audit connect without any call that is asked about.
TEST(FilterRecordTest, FromAuditToEnforceRingsAreUnseen) {
  const FilterGaps gaps = FindGaps(Record(kAudit), Record(kPlain));
  EXPECT_THAT(gaps.unseen, Contains("io_uring_enter"));
  EXPECT_THAT(gaps.unseen, Contains("request_key"));
  EXPECT_THAT(gaps.unseen, Not(Contains("connect")));
  EXPECT_THAT(gaps.unseen, Not(Contains("io_uring_setup"))) << "the agent refuses it";
  EXPECT_THAT(gaps.unseen, Not(Contains("sendmsg")));
  EXPECT_TRUE(gaps.refused.empty());
}

TEST(FilterRecordTest, FromEnforceToAuditSomeIsRefusedStill) {
  const FilterGaps gaps = FindGaps(Record(kPlain), Record(kAudit));
  EXPECT_TRUE(gaps.unseen.empty()) << gaps.unseen.front();
  EXPECT_THAT(gaps.refused, Contains("io_uring_setup"));
  EXPECT_THAT(gaps.refused, Contains("sendmsg")) << "MSG_FASTOPEN";
}

TEST(FilterRecordTest, AStrictPolicyRefusesWhatHasNoName) {
  const FilterGaps gaps = FindGaps(Record(kPlain), Record(kStrict));
  EXPECT_THAT(gaps.unseen, Contains("*"));
  EXPECT_THAT(gaps.unseen, Contains("ptrace"));
  EXPECT_THAT(FindGaps(Record(kStrict), Record(kPlain)).refused, Contains("*"));
}

TEST(FilterRecordTest, ComesBackFromTheMetadata) {
  for (const char* policy : {kPlain, kIncoming, kAudit, kRedirect, kStrict}) {
    const FilterRecord record = Record(policy);
    const std::string text = EncodeListenerMetadata({.policy = "p", .facts = {}, .filter = record});
    EXPECT_LT(text.size(), 16'384U);
    const auto decoded = DecodeListenerMetadata(text);
    ASSERT_TRUE(decoded) << decoded.error().what;
    EXPECT_EQ(decoded->filter, record);
  }
}

TEST(FilterRecordTest, MetadataOfOtherVersionsIsTaken) {
  const auto filter = [](const char* text) {
    const auto decoded = DecodeListenerMetadata(text);
    EXPECT_TRUE(decoded) << text;
    return decoded->filter;
  };
  EXPECT_EQ(filter(R"({"oakum":1,"policy":"p"})"), std::nullopt);
  EXPECT_EQ(filter(R"({"oakum":1,"policy":"p","filter":7})"), std::nullopt);
  EXPECT_EQ(filter(R"({"oakum":1,"policy":"p","filter":{"all.n":["connect"]}})"), std::nullopt);
  // What this version cannot read asks about less than it knows of, until the opposite is shown.
  const auto odd = filter(R"({"oakum":1,"policy":"p","filter":{"later":"connect  bind ","":"x"}})");
  ASSERT_TRUE(odd);
  EXPECT_THAT(FindGaps(*odd, Record(kIncoming)).unseen, Contains("connect"));
}

}  // namespace
}  // namespace oakum::policy
