#include "agent/events/event_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"

namespace oakum::agent {
namespace {

// A disk that is full beyond `size` bytes: write(2) says EFBIG there, after a part, as it says
// ENOSPC (setrlimit(2)).
class FullBeyond {
 public:
  explicit FullBeyond(rlim_t size) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit = {size, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullBeyond() { setrlimit(RLIMIT_FSIZE, &old_); }
  FullBeyond(const FullBeyond&) = delete;
  FullBeyond& operator=(const FullBeyond&) = delete;

 private:
  rlimit old_ = {};
};

class EventOutputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-output-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/events";
    signal(SIGPIPE, SIG_IGN);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  [[nodiscard]] EventOutput Open() const {
    auto output = EventOutput::Create(path_);
    EXPECT_TRUE(output) << output.error().what;
    return std::move(*output);
  }
  static std::string Text(const std::string& path) { return ReadFile(path, 1 << 20).value(); }
  [[nodiscard]] UniqueFd Reader() const {
    return UniqueFd(open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  static std::string Take(const UniqueFd& reader, size_t size) {
    std::string text(size, '\0');
    const ssize_t got = read(reader.get(), text.data(), size);
    text.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
    return text;
  }

  std::string dir_;
  std::string path_;
};

TEST_F(EventOutputTest, GoesOnWithALineWhenThereIsRoomAgain) {
  EventOutput output = Open();
  output.Append("one\ntwo\nthree\n");
  {
    const FullBeyond full(6);
    EXPECT_EQ(output.Write().error().code, EFBIG);
    EXPECT_EQ(Text(path_), "one\ntw");
    EXPECT_EQ(output.Write().error().code, EFBIG);
  }
  ASSERT_TRUE(output.Write());
  EXPECT_EQ(Text(path_), "one\ntwo\nthree\n");
}

TEST_F(EventOutputTest, AFileThatIsLeftEndsWithAWholeLine) {
  EventOutput output = Open();
  output.Append("one\ntwo\nthree\n");
  {
    const FullBeyond full(6);
    ASSERT_FALSE(output.Write());
  }
  ASSERT_EQ(rename(path_.c_str(), (path_ + ".1").c_str()), 0);
  ASSERT_TRUE(output.Reopen());
  ASSERT_TRUE(output.Write());
  EXPECT_EQ(Text(path_ + ".1"), "one\n");
  EXPECT_EQ(Text(path_), "two\nthree\n");
}

TEST_F(EventOutputTest, AFileThatWasEmptiedStartsWithAWholeLine) {
  EventOutput output = Open();
  output.Append("one\ntwo\nthree\n");
  {
    const FullBeyond full(6);
    ASSERT_FALSE(output.Write());
  }
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  ASSERT_TRUE(output.Write());
  EXPECT_EQ(Text(path_), "two\nthree\n");
}

TEST_F(EventOutputTest, AFileThatWasDeletedIsMadeAnew) {
  EventOutput output = Open();
  output.Append("one\n");
  ASSERT_TRUE(output.Write());
  ASSERT_EQ(unlink(path_.c_str()), 0);
  output.Append("two\n");
  ASSERT_TRUE(output.Write());
  EXPECT_EQ(Text(path_), "two\n");
}

TEST_F(EventOutputTest, WhatAReaderLeavesBehindIsForTheNext) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EventOutput output = Open();
  UniqueFd reader = Reader();
  output.Append("one\ntwo\nthree\n");
  ASSERT_TRUE(output.Write());
  EXPECT_EQ(Take(reader, 6), "one\ntw");
  reader.Reset();
  output.Append("four\n");
  EXPECT_EQ(output.Write().error().code, EPIPE);
  EXPECT_EQ(output.PendingLines(), 3);
  EXPECT_EQ(output.Write().error().code, ENXIO);
  reader = Reader();
  ASSERT_TRUE(output.Write());
  EXPECT_EQ(Take(reader, 100), "two\nthree\nfour\n");
  reader.Reset();
  output.TakeBackUnread();
  EXPECT_EQ(output.pending(), 0) << "all was read";
}

TEST_F(EventOutputTest, ReadersThatDieLoseAndDoubleNoLine) {
  constexpr int kLines = 40'000;
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EventOutput output = Open();
  std::string expected;
  std::string whole;
  for (int i = 0; i < kLines; ++i) {
    expected += "line " + std::to_string(i) + '\n';
  }
  output.Append(expected);
  for (size_t turn = 1; whole.size() < expected.size(); ++turn) {
    ASSERT_LT(turn, 1'000);
    {
      const UniqueFd reader = Reader();
      (void)output.Write();
      std::string got = Take(reader, 7'919 * turn % 90'001 + 1);
      (void)output.Write();             // more of it, which is left
      got.resize(got.rfind('\n') + 1);  // what a reader of lines makes of it
      whole += got;
    }
    output.TakeBackUnread();
  }
  EXPECT_TRUE(whole == expected);
}

TEST_F(EventOutputTest, AReaderThatIsAlwaysBehindCostsNoMemory) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EventOutput output = Open();
  const UniqueFd reader = Reader();
  const std::string line(1'000, 'x');
  output.Append(std::string(1 << 20, 'x') + '\n');
  for (int i = 0; i < 30'000; ++i) {
    output.Append(line + '\n');
    if (i % 50 == 0) {
      (void)output.Write();
      ASSERT_GT(Take(reader, 50 * 1'001).size(), 0U);
    }
    ASSERT_LT(output.buffer().size(), 8U << 20);
  }
  EXPECT_GT(output.pending(), 0U);
}

}  // namespace
}  // namespace oakum::agent
