// "Never weaker", proven on the BPF that libseccomp makes of a section before and after the merge.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/audit.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

#include "base/file.h"
#include "oci/json.h"
#include "oci/seccomp_merge.h"
#include "oci/seccomp_program.h"
#include "oci/seccomp_section.h"
#include "test/unit/oci/never_weaker.h"
#include "test/unit/oci/random_profile.h"

namespace oakum::oci {
namespace {

constexpr RuntimeKind kKinds[] = {RuntimeKind::kRunc, RuntimeKind::kRuncSorted, RuntimeKind::kCrun};

// The sanitizer, under which each profile costs many times as much, looks at the memory of the same
// code: at fewer of them, and one runtime for each.
#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kProfiles = 32;
constexpr bool kEveryKind = false;
#else
constexpr uint64_t kProfiles = 100;
constexpr bool kEveryKind = true;
#endif

// The same cases each time, since random ones may meet yet another defect of libseccomp, a hang
// among them. OAKUM_SEED is another seed, or "random" for one that is new each time.
uint64_t Seed() {
  const char* given = std::getenv("OAKUM_SEED");
  const uint64_t seed = given == nullptr                      ? 20260424
                        : std::string_view(given) == "random" ? std::random_device()()
                                                              : std::stoull(given);
  fmt::print("OAKUM_SEED={}\n", seed);
  return seed;
}

Json Data(const std::string& name) {
  const char* source = std::getenv("OAKUM_SOURCE_DIR");
  const std::string path =
      fmt::format("{}/test/data/seccomp/{}.json", source != nullptr ? source : ".", name);
  const auto text = ReadFile(path, 1 << 20);
  EXPECT_TRUE(text) << text.error().ToString();
  return text ? *ParseJson(*text, path) : Json();
}

void MustHold(const Json& section, const SeccompPlan& plan, std::mt19937_64& random) {
  const RuntimeKind one = kKinds[random() % std::size(kKinds)];
  for (const RuntimeKind kind : kKinds) {
    if (!kEveryKind && kind != one) {
      continue;
    }
    const CheckResult result = CheckNeverWeaker(section, plan, kind, random);
    EXPECT_EQ(result.outcome, MergeOutcome::kChecked) << result.error << "\n" << section.dump();
    EXPECT_GT(result.calls, 1000U);
    EXPECT_GT(result.changed, 0U) << "the plan changes nothing";
  }
}

// What the proof of a merge begins once for each system call is where all of its calls come to.
TEST(BpfTest, GoesOnFromWhereArgumentsBegin) {
  std::mt19937_64 random(Seed());
  size_t further = 0;
  for (int round = 0; round < 40; ++round) {
    const auto section = ParseSeccompSection(RandomSection(random));
    const auto program = section ? ToBpf(*section) : Expected<BpfProgram>(BpfProgram());
    if (!program) {
      continue;
    }
    for (const uint32_t arch : std::to_array<uint32_t>({AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, 0})) {
      for (int number = -1; number < 450; ++number) {
        seccomp_data call = {.nr = number, .arch = arch, .instruction_pointer = 0, .args = {}};
        const BpfState state = RunBpfToArguments(*program, call);
        further += state.at;
        for (int i = 0; i < 4; ++i) {
          for (auto& arg : call.args) {
            arg = random() % 3 == 0 ? random() % 4 : random();
          }
          ASSERT_EQ(RunBpf(*program, call, state), RunBpf(*program, call)) << number;
        }
      }
    }
  }
  EXPECT_GT(further, 0U);
  // Whatever is wrong with a program before its first argument stays wrong.
  const BpfProgram jumps_out = {{BPF_JMP | BPF_JA, 0, 0, 7}, {BPF_RET | BPF_K, 0, 0, 0}};
  const BpfProgram without_end = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0}};
  for (const BpfProgram& wrong : {BpfProgram(), jumps_out, without_end}) {
    EXPECT_EQ(RunBpf(wrong, {}, RunBpfToArguments(wrong, {})), std::nullopt);
  }
}

class RealProfileTest : public testing::TestWithParam<const char*> {};

TEST_P(RealProfileTest, IsNeverWeakerAfterTheMerge) {
  std::mt19937_64 random(Seed());
  MustHold(Data(GetParam()), EnforcingPlan(), random);
  MustHold(Data(GetParam()), ClosedPlan(EACCES, ENOSYS, true), random);
}

INSTANTIATE_TEST_SUITE_P(Engines, RealProfileTest,
                         testing::Values("docker-default", "docker-cap-sys-admin", "docker-cap-all",
                                         "podman-default", "podman-cap-net-raw",
                                         "podman-cap-audit-write", "podman-cap-sys-admin",
                                         "podman-cap-all"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

class HandPickedTest : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(HandPickedTest, IsNeverWeakerAfterTheMerge) {
  std::mt19937_64 random(Seed());
  const auto section = ParseJson(GetParam().second, "section");
  ASSERT_TRUE(section) << section.error().ToString();
  MustHold(*section, EnforcingPlan(), random);
  MustHold(*section, ClosedPlan(EACCES, ENOSYS, true), random);
  MustHold(*section, ClosedPlan(ENOSYS, EPERM, false), random);
}

INSTANTIATE_TEST_SUITE_P(
    Sections, HandPickedTest,
    testing::Values(
        std::pair("None", "null"), std::pair("Empty", "{}"),
        std::pair("AllowOnly", R"({"defaultAction":"SCMP_ACT_ALLOW"})"),
        std::pair("AllowAllArchs", R"({"defaultAction":"SCMP_ACT_ALLOW",
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":null})"),
        std::pair("LogOnly",
                  R"({"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_X86"]})"),
        std::pair("AllowWithDenials", R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mount","bind"],"action":"SCMP_ACT_ERRNO","errnoRet":99},
            {"names":["ptrace"],"action":"SCMP_ACT_KILL"},
            {"names":["sendmsg"],"action":"SCMP_ACT_LOG"},
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,
             "args":[{"index":0,"value":38,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_KILL_PROCESS",
             "args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"},{"index":1,"value":3,"op":"SCMP_CMP_EQ"}]},
            {"names":["sendto"],"action":"SCMP_ACT_TRAP",
             "args":[{"index":2,"value":4096,"op":"SCMP_CMP_GT"}]}]})"),
        std::pair("AllowWithSocketcall", R"({"defaultAction":"SCMP_ACT_ALLOW",
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
            {"names":["socketcall"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,
             "args":[{"index":0,"value":38,"op":"SCMP_CMP_EQ"}]}]})"),
        std::pair("PerRuleErrno",
                  R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
            {"names":["read","connect","socket","sendto"],"action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
            {"names":["bind"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
            {"names":["listen"],"action":"SCMP_ACT_TRACE","errnoRet":7},
            {"names":["accept"],"action":"SCMP_ACT_ERRNO"}]})"),
        std::pair("VsockDenied", R"({"defaultAction":"SCMP_ACT_ERRNO",
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[
            {"names":["socketcall","connect","read"],"action":"SCMP_ACT_ALLOW"},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":40,"op":"SCMP_CMP_NE"}]}]})"),
        std::pair("Ranges", R"({"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":38,"op":"SCMP_CMP_LT"}]},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":39,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":40,"op":"SCMP_CMP_GT"}]},
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,
             "args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]})"),
        std::pair("RepeatedIndex", R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
             {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"},
             {"index":1,"value":15,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]})"),
        std::pair("UnconditionalWins", R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,
             "args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"},{"index":1,"value":40,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket","connect"],"action":"SCMP_ACT_LOG"},
            {"names":["socket","connect"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["connect"],"action":"SCMP_ACT_KILL"},
            {"names":["bind"],"action":"SCMP_ACT_KILL"},
            {"names":["bind"],"action":"SCMP_ACT_ALLOW"}]})"),
        std::pair("DefaultIsSkipped", R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["accept4"],"action":"SCMP_ACT_ERRNO"},
            {"names":["accept4","listen"],"action":"SCMP_ACT_ALLOW"},
            {"names":["listen"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]})"),
        std::pair("MaskOfNothing", R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["connect"],"action":"SCMP_ACT_ALLOW","args":[
             {"index":1,"value":0,"valueTwo":5,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["sendto"],"action":"SCMP_ACT_ALLOW","args":[
             {"index":1,"value":0,"op":"SCMP_CMP_GE"}]}]})"),
        std::pair("AllowThatWasSkipped", R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mount","keyctl","vmsplice"],"action":"SCMP_ACT_ALLOW"},
            {"names":["mount","keyctl","vmsplice"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["close","tee"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
            {"names":["close","tee"],"action":"SCMP_ACT_ERRNO","errnoRet":6}]})"),
        std::pair("AllowWithIpc", R"({"defaultAction":"SCMP_ACT_ALLOW",
            "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
            {"names":["ipc"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
            {"names":["semget"],"action":"SCMP_ACT_ERRNO","errnoRet":12,
             "args":[{"index":1,"value":7,"op":"SCMP_CMP_EQ"}]}]})"),
        std::pair("OtherArchs", R"({"defaultAction":"SCMP_ACT_ERRNO",
            "architectures":["SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],"syscalls":[
            {"names":["socket","connect","sendto","accept","read"],"action":"SCMP_ACT_ALLOW"}]})"),
        std::pair("Ppc64le",
                  R"({"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_PPC64LE"],
            "syscalls":[{"names":["recv","socket","connect","sendto","sendmsg","socketcall"],
            "action":"SCMP_ACT_ALLOW"}]})")),
    [](const auto& instance) { return instance.param.first; });

TEST(RandomProfileTest, IsNeverWeakerAfterTheMerge) {
  const uint64_t seed = Seed();
  int checked = 0;
  int refused = 0;
  int invalid = 0;
  uint64_t calls = 0;
  for (uint64_t i = 0; i < kProfiles && !HasFailure(); ++i) {
    std::mt19937_64 random(seed + i);
    const Json section = RandomSection(random);
    if (std::getenv("OAKUM_TRACE") != nullptr) {
      fmt::print("seed {}\n", seed + i);
      std::fflush(stdout);
    }
    SeccompPlan plan =
        i % 3 == 0   ? EnforcingPlan()
        : i % 5 == 0 ? ClosedPlan(1 + static_cast<int>(random() % 4), ENOSYS, random() % 2 == 0)
                     : RandomPlan(random);
    if (i % 2 == 0) {
      plan.others_errno = random() % 2 == 0 ? ENOSYS : EPERM;
    }
    const CheckResult result = CheckNeverWeaker(section, plan, kKinds[i % 3], random);
    calls += result.calls;
    checked += result.outcome == MergeOutcome::kChecked ? 1 : 0;
    invalid += result.outcome == MergeOutcome::kInvalid ? 1 : 0;
    refused += result.outcome == MergeOutcome::kRefused ? 1 : 0;
    if (std::getenv("OAKUM_TRACE") != nullptr) {
      fmt::print("outcome {}\n", result.error);
    }
    if (HasFailure()) {
      fmt::print("failed with OAKUM_SEED={}\n", seed + i);
    }
  }
  fmt::print("{} profiles checked on {} calls, {} refused, {} invalid\n", checked, calls, refused,
             invalid);
  EXPECT_GT(checked, static_cast<int>(kProfiles / 4))
      << "most random profiles were not checked at all";
}

}  // namespace
}  // namespace oakum::oci
