#include "base/trusted_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "base/file.h"

namespace oakum {
namespace {

using ::testing::HasSubstr;

class TrustedPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-trust-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    std::filesystem::create_directories(dir_ + "/a/b");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  static void Mode(const std::string& path, mode_t mode) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0) << path;
  }
  static void Refused(const Expected<void>& checked, std::string_view why) {
    ASSERT_FALSE(checked) << why;
    EXPECT_EQ(checked.error().code, EPERM);
    EXPECT_THAT(checked.error().what, HasSubstr(std::string(why)));
  }
  // What a child in which `prepare` was done says; -1: it could not be.
  static int InChild(const std::function<bool()>& prepare, const std::function<bool()>& ask) {
    const pid_t child = fork();
    if (child == 0) {
      _exit(!prepare() ? 2 : ask() ? 1 : 0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 2;
    return code == 2 ? -1 : code;
  }

  std::string dir_;
};

TEST_F(TrustedPathTest, ADirectoryOfOursIsTrusted) {
  EXPECT_TRUE(CheckOnlyOursToReplace(dir_ + "/a/b/socket"));
  EXPECT_TRUE(CheckOnlyOursToReplace(dir_ + "/a/missing/as/well/socket"));
  EXPECT_TRUE(CheckOnlyOursToReplace(dir_ + "/a/../a/./b//socket"));
  EXPECT_EQ(CheckOnlyOursToReplace("socket").error().code, EINVAL);
}

TEST_F(TrustedPathTest, NobodyElseMayWriteOnTheWay) {
  for (const mode_t mode : {mode_t{0777}, mode_t{0775}, mode_t{0757}, mode_t{02775}}) {
    Mode(dir_ + "/a", mode);
    Refused(CheckOnlyOursToReplace(dir_ + "/a/b/socket"), dir_ + "/a is writable for others");
    Refused(CheckOnlyOursToReplace(dir_ + "/a/b/../b/socket"), dir_ + "/a is writable");
    Refused(CheckOnlyOursToReplace(dir_ + "/a/missing/socket"), dir_ + "/a is writable");
  }
  Mode(dir_ + "/a", 0755);
  EXPECT_TRUE(CheckOnlyOursToReplace(dir_ + "/a/b/socket"));
}

TEST_F(TrustedPathTest, AStickyDirectoryIsForDirectoriesOnly) {
  Mode(dir_ + "/a", 01777);
  EXPECT_TRUE(CheckOnlyOursToReplace(dir_ + "/a/b/socket"));
  Refused(CheckOnlyOursToReplace(dir_ + "/a/socket"), "(mode 1777)");
  Refused(CheckOnlyOursToReplace("/tmp/socket"), "/tmp is writable for others");
}

TEST_F(TrustedPathTest, OwnersAreRootAndOurselves) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "only root can give things away";
  }
  ASSERT_EQ(chown((dir_ + "/a").c_str(), 4711, 4711), 0);
  Refused(CheckOnlyOursToReplace(dir_ + "/a/b/socket"), dir_ + "/a belongs to user 4711");
  EXPECT_TRUE(CheckNotEverybodysToChange(dir_ + "/a/b"));
  Mode(dir_, 0755);
  EXPECT_EQ(InChild([] { return setuid(4711) == 0; },
                    [&] { return CheckOnlyOursToReplace(dir_ + "/a/b/socket").has_value(); }),
            1);
}

TEST_F(TrustedPathTest, LinksAreFollowedByWhoMadeThem) {
  std::filesystem::create_symlink(dir_ + "/a", dir_ + "/link");
  std::filesystem::create_symlink("link/b", dir_ + "/other");
  EXPECT_TRUE(CheckOnlyOursToReplace(dir_ + "/other/socket"));
  Mode(dir_ + "/a", 0777);
  Refused(CheckOnlyOursToReplace(dir_ + "/other/socket"), dir_ + "/a is writable");
  Mode(dir_ + "/a", 0755);
  std::filesystem::create_symlink("loop", dir_ + "/loop");
  EXPECT_EQ(CheckOnlyOursToReplace(dir_ + "/loop/socket").error().code, ELOOP);
  if (geteuid() == 0) {
    ASSERT_EQ(lchown((dir_ + "/link").c_str(), 4711, 4711), 0);
    Refused(CheckOnlyOursToReplace(dir_ + "/other/socket"), dir_ + "/link belongs to user 4711");
  }
}

TEST_F(TrustedPathTest, WhatEverybodyCanChangeIsToldFromWhatAGroupCan) {
  const std::string file = dir_ + "/a/b/policy.json";
  ASSERT_TRUE(ReplaceFile(file, "{}"));
  Mode(dir_ + "/a/b", 0775);
  Mode(file, 0664);
  EXPECT_TRUE(CheckNotEverybodysToChange(file));
  EXPECT_TRUE(CheckNotEverybodysToChange(dir_ + "/a/b/missing"));
  Mode(file, 0666);
  Refused(CheckNotEverybodysToChange(file), "policy.json is writable for others");
  Mode(file, 0644);
  Mode(dir_ + "/a/b", 0777);
  Refused(CheckNotEverybodysToChange(file), dir_ + "/a/b is writable for others");
  Mode(dir_ + "/a/b", 01777);
  EXPECT_TRUE(CheckNotEverybodysToChange(file));
  Refused(CheckNotEverybodysToChange(dir_ + "/a/b"), dir_ + "/a/b is writable for others");
  if (geteuid() == 0) {
    ASSERT_EQ(chown(file.c_str(), 4711, 4711), 0);
    Refused(CheckNotEverybodysToChange(file), "belongs to user 4711");
  }
}

TEST_F(TrustedPathTest, NobodyIsNotWhoHasNoNumberHere) {
  EXPECT_TRUE(IsRootOrSelf(geteuid()));
  EXPECT_TRUE(IsRootOrSelf(0));
  EXPECT_FALSE(IsRootOrSelf(geteuid() + 4711));
  if (!UnmappedUid()) {
    EXPECT_EQ(InChild([] { return geteuid() != 0 || setuid(65'534) == 0; },
                      [] { return IsRootOrSelf(geteuid()); }),
              1)
        << "where every user has a number, 65534 is a user";
  }
  const int inside = InChild([] { return unshare(CLONE_NEWUSER) == 0; },
                             [] { return UnmappedUid() == 65'534U && !IsRootOrSelf(65'534); });
  if (inside < 0) {
    GTEST_SKIP() << "no user namespace can be made here";
  }
  EXPECT_EQ(inside, 1) << "not even for a process that is nobody itself";
}

}  // namespace
}  // namespace oakum
