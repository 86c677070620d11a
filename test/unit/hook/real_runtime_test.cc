#include "hook/real_runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace oakum::hook {
namespace {

using testing::HasSubstr;

struct stat Status(const char* path) {
  struct stat status = {};
  EXPECT_EQ(stat(path, &status), 0);
  return status;
}

TEST(RealRuntime, IsFoundByNameOrPath) {
  const auto self = Status("/proc/self/exe");
  const auto by_name = FindRuntime("true", self);
  ASSERT_TRUE(by_name) << by_name.error().what;
  EXPECT_EQ(*by_name, "/usr/bin/true");
  EXPECT_EQ(FindRuntime("/usr/bin/true", self).value(), "/usr/bin/true");
}

TEST(RealRuntime, IsNeverOurselves) {
  const auto self = Status("/usr/bin/true");
  const auto loop = FindRuntime("/usr/bin/true", self);
  ASSERT_FALSE(loop);
  EXPECT_EQ(loop.error().code, ELOOP);
  const auto by_name = FindRuntime("true", self);
  ASSERT_FALSE(by_name);
  EXPECT_EQ(by_name.error().code, ENOENT);
}

TEST(RealRuntime, HasToBeThereAndExecutable) {
  const auto self = Status("/proc/self/exe");
  EXPECT_EQ(FindRuntime("/nonexistent/runc", self).error().code, ENOENT);
  EXPECT_EQ(FindRuntime("/usr", self).error().code, EACCES);
  EXPECT_EQ(FindRuntime("/etc/passwd", self).error().code, EACCES);
  EXPECT_THAT(FindRuntime("oakum-no-such-runtime", self).error().what, HasSubstr("/usr/sbin"));
}

}  // namespace
}  // namespace oakum::hook
