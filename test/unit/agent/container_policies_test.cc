#include "agent/session/container_policies.h"

#include <gtest/gtest.h>

#include <string>

#include "policy/container.h"

namespace oakum::agent {
namespace {

std::shared_ptr<const policy::PolicySet> Set(const std::string& mode) {
  auto policies = policy::PolicySet::Parse(R"({"version": 1, "policies": {
      "one": {"mode": ")" + mode + R"(", "outgoing": {"default": "deny"}},
      "other": {"mode": "audit", "outgoing": {"default": "deny"}}},
      "containers": [{"match": {"annotation": {"a": "b"}}, "policy": "other"}]})",
                                           "test.json");
  EXPECT_TRUE(policies.has_value());
  return *policies;
}

oci::ContainerProcessState State(const std::string& metadata) {
  oci::ContainerProcessState state;
  state.id = "c1";
  state.metadata = metadata;
  return state;
}

TEST(ContainerPoliciesTest, TheFilterSaysWhichPolicy) {
  ContainerPolicies policies(Set("enforce"));
  auto state = State(policy::EncodeListenerMetadata({"one", {}}));
  state.annotations["a"] = "b";  // which the hook has looked at already
  const auto source = policies.SourceOf(state);
  EXPECT_EQ(source->container_id, "c1");
  EXPECT_EQ(source->policy_name, "one");
  ASSERT_NE(source->policy, nullptr);
  EXPECT_EQ(source->policy->mode(), policy::Mode::kEnforce);
}

TEST(ContainerPoliciesTest, WhereItDoesNotTheContainersRulesDo) {
  ContainerPolicies policies(Set("enforce"));
  auto state = State("by hand");
  EXPECT_EQ(policies.SourceOf(state)->policy, nullptr);
  state.annotations["a"] = "b";
  EXPECT_EQ(policies.SourceOf(state)->policy_name, "other");
}

TEST(ContainerPoliciesTest, APolicyIsRenewedByItsName) {
  ContainerPolicies policies(Set("enforce"));
  const auto before = policies.SourceOf(State(policy::EncodeListenerMetadata({"one", {}})));
  policies.Set(Set("kill"));
  const auto after = policies.Renew(*before, "one");
  ASSERT_NE(after->policy, nullptr);
  EXPECT_EQ(after->policy->mode(), policy::Mode::kKill);
  EXPECT_EQ(before->policy->mode(), policy::Mode::kEnforce) << "a call that has begun goes on";
  EXPECT_EQ(policies.Renew(*before, "gone")->policy, nullptr);
  policies.Set(nullptr);
  EXPECT_EQ(policies.Renew(*before, "one")->policy, nullptr);
}

}  // namespace
}  // namespace oakum::agent
