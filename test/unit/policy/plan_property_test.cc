// What real policies ask of the filter, on the profiles of real engines: never weaker, exactly the
// plan, on the BPF that libseccomp makes of it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/net.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "oci/json.h"
#include "oci/seccomp_merge.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "test/unit/oci/never_weaker.h"

namespace oakum::policy {
namespace {

using oci::Json;

oci::SeccompPlan PlanOf(std::string_view body) {
  const auto set = PolicySet::Parse(fmt::format(R"({{"version": 1, "policies": {{"p": {}}},
                      "containers": [{{"match": {{}}, "policy": "p"}}]}})",
                                                body),
                                    "policy.json");
  EXPECT_TRUE(set) << set.error().ToString();
  const auto policy = set ? (*set)->Match({}) : Expected<const Policy*>(nullptr);
  EXPECT_TRUE(policy && *policy != nullptr);
  return policy && *policy != nullptr ? Plan(**policy) : oci::SeccompPlan();
}

constexpr const char* kPolicies[] = {
    R"({"mode": "audit", "outgoing": {"default": "deny"}})",
    R"({"mode": "enforce", "outgoing": {"default": "deny", "allow": ["10.0.0.0/8"]}})",
    R"({"mode": "kill", "outgoing": {"default": "deny"},
        "incoming": {"default": "deny", "allow": ["0.0.0.0:80/tcp from 10.0.0.0/8"]}})",
    R"({"mode": "enforce", "syscalls": {"base": "strict"}})",
    R"({"mode": "enforce", "dns": "allow", "syscalls": {"deny": ["recvmmsg"]}})",
    R"({"mode": "enforce", "incoming": {"default": "deny"}, "syscalls": {"base": "strict",
        "errno": "ENOSYS", "allow": ["ptrace", "clone3"], "deny": ["shmget", "bind", "mkdir"]}})",
    R"({"mode": "enforce", "syscalls": {"deny": ["semop", "listen", "ptrace"], "errno": 95}})",
};

// All of them; under the sanitizer, which makes the whole many times as long, a quarter for each
// engine, another one for each.
std::vector<const char*> PoliciesFor(std::string_view engine) {
#if defined(__SANITIZE_ADDRESS__)
  const size_t step = 4;
#else
  const size_t step = 1;
#endif
  std::vector<const char*> policies;
  for (size_t i = std::accumulate(engine.begin(), engine.end(), size_t{0}) % step;
       i < std::size(kPolicies); i += step) {
    policies.push_back(kPolicies[i]);
  }
  return policies;
}

Json Section(const std::string& name) {
  if (name == "none") {
    return {};
  }
  const std::string path =
      fmt::format("{}/test/data/seccomp/{}.json", std::getenv("OAKUM_SOURCE_DIR"), name);
  const auto text = ReadFile(path, 1 << 20);
  EXPECT_TRUE(text) << text.error().ToString();
  return text ? *oci::ParseJson(*text, path) : Json();
}

class PlanPropertyTest : public testing::TestWithParam<const char*> {};

TEST_P(PlanPropertyTest, IsNeverWeakerThanTheEngineAndExactlyThePlan) {
  std::mt19937_64 random(20);
  for (const char* policy : PoliciesFor(GetParam())) {
    const oci::SeccompPlan plan = PlanOf(policy);
    for (const auto kind : {oci::RuntimeKind::kRuncSorted, oci::RuntimeKind::kCrun}) {
      const oci::CheckResult result =
          oci::CheckNeverWeaker(Section(GetParam()), plan, kind, random);
      EXPECT_EQ(result.outcome, oci::MergeOutcome::kChecked) << result.error;
      EXPECT_GT(result.changed, 0U);
    }
  }
}

// podman may run both the hook and the wrapper.
TEST_P(PlanPropertyTest, IsIdempotent) {
  const oci::ListenerConfig listener = {"/run/oakum/agent.sock", "{}", {}};
  for (const char* policy : PoliciesFor(GetParam())) {
    const oci::SeccompPlan plan = PlanOf(policy);
    const auto once = oci::MergeSeccomp(Section(GetParam()), plan, listener);
    ASSERT_TRUE(once) << once.error().ToString();
    const auto twice = oci::MergeSeccomp(*once, plan, listener);
    ASSERT_TRUE(twice) << twice.error().ToString();
    EXPECT_EQ(*twice, *once);
  }
}

// The 32-bit way round every rule on registers: socketcall, whatever the order of the rules, and as
// refused as what it carries.
TEST_P(PlanPropertyTest, NotifiesOrRefusesEverySocketcall) {
  for (const char* policy : PoliciesFor(GetParam())) {
    const oci::SeccompPlan plan = PlanOf(policy);
    const auto planned = std::ranges::find(plan.syscalls, "socketcall", &oci::SyscallPlan::name);
    ASSERT_NE(planned, plan.syscalls.end());
    const bool refused = planned->branches.at(0).action == oci::FilterAction::kErrno;
    const auto merged =
        oci::MergeSeccomp(Section(GetParam()), plan, {"/run/oakum/agent.sock", "", {}});
    ASSERT_TRUE(merged) << merged.error().ToString();
    for (const auto kind :
         {oci::RuntimeKind::kRunc, oci::RuntimeKind::kRuncSorted, oci::RuntimeKind::kCrun}) {
      const auto program = oci::BuildFilter(*merged, kind);
      ASSERT_TRUE(program) << program.error().ToString();
      for (uint64_t call = 0; call <= SYS_SENDMMSG + 1; ++call) {
        for (const uint64_t pointer : {0U, 1U, 2U, 16U, 0x20000000U, 0xffffffffU}) {
          seccomp_data data = {};
          data.arch = AUDIT_ARCH_I386;
          data.nr = 102;  // __NR_socketcall of i386
          data.args[0] = call;
          for (int i = 1; i < 6; ++i) {
            data.args[i] = pointer;
          }
          const uint32_t action = oci::RunBpf(*program, data).value_or(0) & SECCOMP_RET_ACTION_FULL;
          ASSERT_EQ(action, refused ? SECCOMP_RET_ERRNO : SECCOMP_RET_USER_NOTIF)
              << policy << " " << call << " " << pointer;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, PlanPropertyTest,
                         testing::Values("none", "docker-default", "docker-cap-all",
                                         "podman-default", "podman-cap-net-raw",
                                         "podman-cap-audit-write", "podman-cap-all"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace oakum::policy
