#include "oci/wait_killable.h"

#include <gtest/gtest.h>

namespace oakum::oci {
namespace {

TEST(WaitKillableTest, CrunSaysItByItsVersion) {
  EXPECT_EQ(WaitKillableByVersion("crun version 1.8.1\ncommit: f8\n+SYSTEMD +SECCOMP +YAJL\n"),
            RuntimeAnswer::kYes);
  EXPECT_EQ(WaitKillableByVersion("crun version 1.6\n+SECCOMP\n"), RuntimeAnswer::kYes);
  EXPECT_EQ(WaitKillableByVersion("crun version 2.0\n+SECCOMP\n"), RuntimeAnswer::kYes);
  EXPECT_EQ(WaitKillableByVersion("crun version 1.5\n+SECCOMP\n"), RuntimeAnswer::kNo);
  EXPECT_EQ(WaitKillableByVersion("crun version 0.21\n+SECCOMP\n"), RuntimeAnswer::kNo);
  EXPECT_EQ(WaitKillableByVersion("crun version 1.8.1\n+SYSTEMD\n"), RuntimeAnswer::kNo);
  EXPECT_EQ(WaitKillableByVersion("crun version \n+SECCOMP\n"), RuntimeAnswer::kNo);
}

TEST(WaitKillableTest, OthersSayItByTheirFeatures) {
  EXPECT_EQ(WaitKillableByVersion("runc version 1.5.0\nlibseccomp: 2.6.0\n"),
            RuntimeAnswer::kAskFeatures);
  EXPECT_EQ(WaitKillableByVersion(""), RuntimeAnswer::kAskFeatures);
  const std::string start = R"({"linux": {"seccomp": {"knownFlags": [")" +
                            std::string(kWaitKillableFlag) + R"("], "supportedFlags": [)";
  EXPECT_TRUE(WaitKillableByFeatures(start + R"("SECCOMP_FILTER_FLAG_LOG", ")" + kWaitKillableFlag +
                                     R"("]}}})"));
  EXPECT_FALSE(WaitKillableByFeatures(start + R"("SECCOMP_FILTER_FLAG_LOG"]}}})"));
  EXPECT_FALSE(WaitKillableByFeatures(start + "1]}}}"));
  for (const char* const text : {"", "unknown command features", "[]", "{}", R"({"linux": 1})",
                                 R"({"linux": {"seccomp": {"supportedFlags": "x"}}})"}) {
    EXPECT_FALSE(WaitKillableByFeatures(text)) << text;
  }
}

TEST(WaitKillableTest, KernelsKeepItFrom618On) {
  for (const char* const release : {"6.18.0", "6.18.44-generic", "6.20", "7.0-rc1"}) {
    EXPECT_TRUE(KernelKeepsWaitKillable(release)) << release;
  }
  for (const char* const release : {"6.17.9", "6.2", "5.19", "", "x"}) {
    EXPECT_FALSE(KernelKeepsWaitKillable(release)) << release;
  }
}

}  // namespace
}  // namespace oakum::oci
