#include "cli/seccomp_profile.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace oakum::cli {
namespace {

oci::Json Parse(std::string_view text) { return oci::ParseJson(text, "profile").value(); }

class ResolveProfileTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string Resolve(std::string_view profile) const {
    auto section = ResolveProfile(Parse(profile), target_);
    return section ? section->dump() : section.error().what;
  }

  std::vector<std::string> capabilities_ = {"CAP_CHOWN", "CAP_KILL"};
  ProfileTarget target_{.go_arch = "amd64",
                        .scmp_arch = "SCMP_ARCH_X86_64",
                        .kernel_major = 5,
                        .kernel_minor = 10,
                        .capabilities = capabilities_};
};

TEST_F(ResolveProfileTest, ASectionStaysAsItIs) {
  constexpr std::string_view kSection =
      R"({"defaultAction":"SCMP_ACT_ERRNO","x":18446744073709551615,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]})";
  EXPECT_EQ(Resolve(kSection), kSection);
  EXPECT_EQ(Resolve(R"({"ociVersion":"1.0.2","linux":{"seccomp":)" + std::string(kSection) + "}}"),
            kSection);
  EXPECT_EQ(Resolve(R"({"ociVersion":"1.0.2","linux":{}})"), "null");
}

TEST_F(ResolveProfileTest, Architectures) {
  EXPECT_EQ(Resolve(R"({"archMap":[
      {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
      {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}]})"),
            R"({"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"]})");
}

TEST_F(ResolveProfileTest, RulesOfOtherContainersGo) {
  const auto kept = [&](std::string_view conditions) {
    const std::string resolved =
        Resolve(R"({"syscalls":[{"names":["x"],)" + std::string(conditions) + "}]}");
    return resolved == R"({"syscalls":[{"names":["x"]}]})" ? "kept"
           : resolved == R"({"syscalls":[]})"              ? "gone"
                                                           : resolved;
  };
  EXPECT_EQ(kept(R"("includes":{},"excludes":null)"), "kept");
  EXPECT_EQ(kept(R"("includes":{"caps":["CAP_KILL"]})"), "kept");
  EXPECT_EQ(kept(R"("includes":{"caps":["CAP_KILL","CAP_BPF"]})"), "gone");
  EXPECT_EQ(kept(R"("excludes":{"caps":["CAP_BPF"]})"), "kept");
  EXPECT_EQ(kept(R"("excludes":{"caps":["CAP_BPF","CAP_KILL"]})"), "gone");
  EXPECT_EQ(kept(R"("includes":{"arches":["amd64","x32"]})"), "kept");
  EXPECT_EQ(kept(R"("includes":{"arches":["arm64"]})"), "gone");
  EXPECT_EQ(kept(R"("excludes":{"arches":["amd64"]})"), "gone");
  EXPECT_EQ(kept(R"("includes":{"minKernel":"4.8"})"), "kept");
  EXPECT_EQ(kept(R"("includes":{"minKernel":"5.11"})"), "gone");
  EXPECT_EQ(kept(R"("excludes":{"minKernel":"5.10"})"), "gone");
  // A condition that is not known is no reason to guess.
  EXPECT_EQ(kept(R"("includes":{"moon":"full"})"), "unknown condition \"moon\" in \"includes\"");
  EXPECT_EQ(kept(R"("includes":{"caps":"CAP_KILL"})"), "\"includes.caps\" must be an array");
}

TEST_F(ResolveProfileTest, OldAndMalformed) {
  EXPECT_EQ(Resolve(R"({"syscalls":[{"name":"x","args":null}]})"),
            R"({"syscalls":[{"names":["x"]}]})");
  EXPECT_EQ(Resolve("[]"), "a profile is a JSON object");
  EXPECT_EQ(Resolve(R"({"syscalls":{}})"), "\"syscalls\" must be an array");
  EXPECT_EQ(Resolve(R"({"syscalls":[1]})"), "\"syscalls\" must hold objects");
  EXPECT_EQ(Resolve(R"({"archMap":{}})"), "\"archMap\" must be an array");
}

}  // namespace
}  // namespace oakum::cli
