#include "hook/runtime_flags.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "oci/wait_killable.h"

namespace oakum::hook {
namespace {

class RuntimeFlagsTest : public testing::Test {
 protected:
  RuntimeFlagsTest() {
    std::string name = testing::TempDir() + "oakum-flags-XXXXXX";
    directory_ = mkdtemp(name.data());
    Write("runtime", "one");
    Write("other", "two");
  }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name) << text;
  }
  bool Takes(const std::string& name = "runtime") {
    return TakesWaitKillable(directory_ + "/" + name, directory_ + "/cache",
                             [this](const std::vector<std::string>& command) {
                               ++asked_;
                               return command[1] == "--version" ? version_ : features_;
                             });
  }

  std::string directory_;
  int asked_ = 0;
  Expected<std::string> version_ = "crun version 1.8.1\n+SECCOMP\n";
  Expected<std::string> features_ = MakeError(EIO, "it failed");
};

TEST_F(RuntimeFlagsTest, AsksOnce) {
  EXPECT_TRUE(Takes());
  EXPECT_TRUE(Takes());
  EXPECT_EQ(asked_, 1);
  version_ = "runc version 1.1.5\n";
  EXPECT_FALSE(Takes("other"));
  EXPECT_EQ(asked_, 3);
  EXPECT_FALSE(Takes("other"));
  EXPECT_TRUE(Takes());
  EXPECT_EQ(asked_, 3);
}

TEST_F(RuntimeFlagsTest, AsksAgainWhenTheFileIsAnother) {
  EXPECT_TRUE(Takes());
  version_ = "crun version 1.5\n+SECCOMP\n";
  Write("runtime", "another");
  EXPECT_FALSE(Takes());
  EXPECT_EQ(asked_, 2);
  ASSERT_EQ(rename((directory_ + "/other").c_str(), (directory_ + "/runtime").c_str()), 0);
  EXPECT_FALSE(Takes());
  EXPECT_EQ(asked_, 3);
}

TEST_F(RuntimeFlagsTest, BelievesNoCacheThatOthersCanWriteTo) {
  EXPECT_TRUE(Takes());
  ASSERT_EQ(chmod((directory_ + "/cache").c_str(), 0666), 0);
  EXPECT_TRUE(Takes());
  EXPECT_EQ(asked_, 2);
  const std::string elsewhere = directory_ + "/elsewhere";
  ASSERT_EQ(rename((directory_ + "/cache").c_str(), elsewhere.c_str()), 0);
  ASSERT_EQ(chmod(elsewhere.c_str(), 0600), 0);
  ASSERT_EQ(symlink(elsewhere.c_str(), (directory_ + "/cache").c_str()), 0);
  EXPECT_TRUE(Takes());
  EXPECT_EQ(asked_, 3);
}

TEST_F(RuntimeFlagsTest, WhatDoesNotSayTakesNone) {
  version_ = MakeError(ENOENT, "cannot be run");
  EXPECT_FALSE(Takes());
  version_ = "somebody's runtime\n";
  EXPECT_FALSE(Takes("other"));
  EXPECT_FALSE(Takes("missing"));
}

TEST_F(RuntimeFlagsTest, TheSwitchDecidesFirst) {
  policy::Config config;
  config.socket = directory_ + "/agent.sock";
  const std::vector<std::string> flag = {oci::kWaitKillableFlag};
  config.wait_killable = policy::WaitKillable::kOn;
  EXPECT_EQ(FilterFlags(config, ""), flag);
  config.wait_killable = policy::WaitKillable::kOff;
  EXPECT_TRUE(FilterFlags(config, "").empty());
  config.wait_killable = policy::WaitKillable::kAuto;
  EXPECT_TRUE(FilterFlags(config, "").empty());
  EXPECT_TRUE(FilterFlags(config, directory_ + "/runtime").empty());  // cannot be run
  // A runtime of the test's own, as it is asked in earnest.
  Write("crun", "#!/bin/sh\necho 'crun version 1.9'\necho +SECCOMP\n");
  ASSERT_EQ(chmod((directory_ + "/crun").c_str(), 0755), 0);
  EXPECT_EQ(FilterFlags(config, directory_ + "/crun").size(), oci::KernelWaitsKillable() ? 1U : 0U);
}

}  // namespace
}  // namespace oakum::hook
