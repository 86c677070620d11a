#include "agent/calls/known_destinations.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "policy/policy_set.h"

namespace oakum::agent {
namespace {

using policy::Operation;
using policy::Transport;

std::shared_ptr<const policy::PolicySet> Parse(const std::string& outgoing,
                                               const std::string& rest = "") {
  auto policies = policy::PolicySet::Parse(
      R"({"version": 1, "proxies": {"tor": {"url": "socks5h://127.0.0.1:9050"}}, "policies": {
            "p": {"mode": "enforce", "outgoing": {)" +
          outgoing + "}" + rest + "}}}",
      "test.json");
  EXPECT_TRUE(policies.has_value()) << policies.error().ToString();
  return *policies;
}

policy::InetRequest Request(Operation operation, Transport transport, std::string_view address,
                            uint16_t port) {
  policy::InetRequest request;
  request.operation = operation;
  request.transport = transport;
  request.remote = {*policy::IpAddress::Parse(address), port};
  return request;
}

TEST(KnownDestinationsTest, RemembersOneDecisionForWhatItWasAbout) {
  const auto policies = Parse(R"("default": "deny", "allow": ["10.0.0.1:80"])");
  const policy::Policy& policy = *policies->Find("p");
  KnownDestinations known;
  known.Begin(&policy);
  ASSERT_TRUE(known.lasts());
  const auto request = Request(Operation::kConnect, Transport::kTcp, "10.0.0.1", 80);
  EXPECT_EQ(known.Find(request), nullptr);
  known.Keep(request, policy.Decide(request));
  ASSERT_NE(known.Find(request), nullptr);
  EXPECT_EQ(known.Find(request)->verdict, policy::Verdict::kAllow);
  // Others of the same place.
  for (const auto& other : {Request(Operation::kSend, Transport::kTcp, "10.0.0.1", 80),
                            Request(Operation::kConnect, Transport::kUdp, "10.0.0.1", 80),
                            Request(Operation::kConnect, Transport::kTcp, "10.0.1.1", 80),
                            Request(Operation::kConnect, Transport::kTcp, "::ffff:10.0.0.2", 79),
                            Request(Operation::kConnect, Transport::kTcp, "10.0.0.1", 96)}) {
    EXPECT_EQ(known.Find(other), nullptr);
  }
  const auto next = Request(Operation::kConnect, Transport::kTcp, "10.0.0.1", 96);
  known.Keep(next, policy.Decide(next));
  EXPECT_EQ(known.Find(next)->verdict, policy::Verdict::kDeny);
  EXPECT_EQ(known.Find(request), nullptr) << "its place is taken";
}

TEST(KnownDestinationsTest, ForgetsAllWithThePolicy) {
  const auto before = Parse(R"("default": "allow")");
  const auto after = Parse(R"("default": "deny")");
  KnownDestinations known;
  const auto request = Request(Operation::kConnect, Transport::kTcp, "10.0.0.1", 80);
  known.Begin(before->Find("p"));
  known.Keep(request, before->Find("p")->Decide(request));
  ASSERT_NE(known.Find(request), nullptr);
  known.Begin(after->Find("p"));
  EXPECT_EQ(known.Find(request), nullptr);
}

// Where more matters than the address, or there is nobody to say it.
TEST(KnownDestinationsTest, RemembersNothingThatMayBeDecidedOtherwiseTheNextTime) {
  const auto request = Request(Operation::kConnect, Transport::kTcp, "10.0.0.1", 80);
  for (const auto& policies :
       {Parse(R"("default": "deny", "allow": ["example.com:80"])", R"(, "dns": "allow")"),
        Parse(R"("default": "redirect")", R"(, "proxy": "tor")")}) {
    KnownDestinations known;
    const policy::Policy* const policy = policies->Find("p");
    known.Begin(policy);
    EXPECT_FALSE(known.lasts());
    known.Keep(request, policy->Decide(request));
    EXPECT_EQ(known.Find(request), nullptr);
  }
  KnownDestinations known;
  known.Begin(nullptr);
  EXPECT_FALSE(known.lasts());
}

}  // namespace
}  // namespace oakum::agent
