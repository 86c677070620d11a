#include "hook/bundle_config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace oakum::hook {
namespace {

class BundleConfig : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "oakum-bundle-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/config.json";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
  std::string path_;
};

TEST_F(BundleConfig, OurOwnEditIsUndone) {
  EXPECT_EQ(BeforeEdit(path_, "text"), "text");
  ASSERT_TRUE(RememberEdit(path_, "original \"é\"\n", "edited\n"));
  EXPECT_EQ(BeforeEdit(path_, "edited\n"), "original \"é\"\n");
}

TEST_F(BundleConfig, AnythingElseIsTakenAsItIs) {
  ASSERT_TRUE(RememberEdit(path_, "original", "edited"));
  EXPECT_EQ(BeforeEdit(path_, "edited by hand"), "edited by hand");
  ASSERT_EQ(chmod((path_ + ".oakum").c_str(), 0666), 0);
  EXPECT_EQ(BeforeEdit(path_, "edited"), "edited");
  ASSERT_TRUE(ReplaceFile(path_ + ".oakum", "{"));
  EXPECT_EQ(BeforeEdit(path_, "edited"), "edited");
}

}  // namespace
}  // namespace oakum::hook
