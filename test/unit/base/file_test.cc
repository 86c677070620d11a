#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

namespace oakum {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string pattern = testing::TempDir() + "/oakum-file-XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~FileTest() override { std::filesystem::remove_all(dir_); }
  [[nodiscard]] std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  [[nodiscard]] size_t Entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(dir_),
                                             std::filesystem::directory_iterator()));
  }

  std::string dir_;
};

TEST_F(FileTest, ReplacesAndReads) {
  ASSERT_TRUE(ReplaceFile(Path("a"), "one"));
  EXPECT_EQ(ReadFile(Path("a"), 100), "one");
  ASSERT_TRUE(ReplaceFile(Path("a"), std::string(100000, 'x')));
  EXPECT_EQ(ReadFile(Path("a"), 100000)->size(), 100000U);
  EXPECT_EQ(Entries(), 1U);
}

TEST_F(FileTest, KeepsTheModeOfWhatItReplaces) {
  ASSERT_TRUE(ReplaceFile(Path("a"), "one"));
  struct stat status{};
  ASSERT_EQ(stat(Path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600);
  ASSERT_EQ(chmod(Path("a").c_str(), 0644), 0);
  ASSERT_TRUE(ReplaceFile(Path("a"), "two"));
  ASSERT_EQ(stat(Path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644);
}

TEST_F(FileTest, LeavesNothingBehindWhenItFails) {
  ASSERT_EQ(mkdir(Path("directory").c_str(), 0700), 0);
  ASSERT_TRUE(ReplaceFile(Path("directory/x"), "in the way"));
  const auto result = ReplaceFile(Path("directory"), "two");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().code, 0);
  EXPECT_EQ(Entries(), 1U);
  EXPECT_EQ(ReadFile(Path("directory/x"), 100), "in the way");
}

TEST_F(FileTest, SaysWhatIsMissing) {
  const auto result = ReadFile(Path("none"), 100);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOENT);
  EXPECT_NE(result.error().what.find("none"), std::string::npos);
}

TEST_F(FileTest, RefusesMoreThanTheLimit) {
  ASSERT_TRUE(ReplaceFile(Path("a"), std::string(101, 'x')));
  EXPECT_EQ(ReadFile(Path("a"), 100).error().code, EFBIG);
  EXPECT_TRUE(ReadFile(Path("a"), 101));
}

TEST(WriteAll, ResumesAfterAShortWrite) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const std::string data(1 << 20, 'x');  // more than a pipe holds (pipe(7): 65536 bytes)
  std::thread thread([&] {
    EXPECT_TRUE(WriteAll(writer.get(), data));
    writer.Reset();
  });
  const auto got = ReadAll(reader.get(), data.size());
  thread.join();
  EXPECT_EQ(got, data);
}

}  // namespace
}  // namespace oakum
