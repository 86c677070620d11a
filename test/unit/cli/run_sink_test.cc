#include "cli/run_sink.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "test/unit/agent/event_samples.h"

namespace oakum::cli {
namespace {

using agent::testing::Denied;
using agent::testing::Source;

void Push(RunSink& sink, int count) {
  const auto source = Source("run-1");
  for (int i = 0; i < count; ++i) {
    sink.Push(Denied(source, static_cast<uint16_t>(1 + i)));
  }
}

// What another process does who shares the sink, and then dies.
template <typename Do>
void InAnother(Do action) {
  const pid_t pid = fork();
  if (pid == 0) {
    action();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_EQ(status, 0);
}

// Of the events that are shared.
int SharedFd() {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir("/proc/self/fd"), closedir);
  while (const dirent* entry = readdir(entries.get())) {
    std::array<char, 64> target{};
    const std::string link = std::string("/proc/self/fd/") + entry->d_name;
    if (readlink(link.c_str(), target.data(), target.size()) > 0 &&
        std::string_view(target.data()).starts_with("/memfd:oakum-events")) {
      return atoi(entry->d_name);
    }
  }
  return -1;
}

TEST(RunSinkTest, CountsEachEventOnceHoweverOftenItIsAsked) {
  for (const bool shares : {false, true}) {
    SCOPED_TRACE(shares);
    RunSink sink;
    if (shares) {
      ASSERT_TRUE(sink.Share());
    }
    EXPECT_EQ(sink.Summary().leaks, 0U);
    Push(sink, 3);
    EXPECT_EQ(sink.Summary().leaks, 3U);
    Push(sink, 2);
    EXPECT_EQ(sink.Summary().leaks, 5U);
    EXPECT_EQ(sink.Summary().broken_lines, 0U);
  }
}

TEST(RunSinkTest, TakesMoreThanIsReadAtOnce) {
  RunSink sink;
  ASSERT_TRUE(sink.Share());
  Push(sink, 5000);
  ASSERT_GT(lseek(SharedFd(), 0, SEEK_CUR), 1 << 20);
  EXPECT_EQ(sink.Summary().leaks, 5000U);
  EXPECT_EQ(sink.Summary().broken_lines, 0U);
}

TEST(RunSinkTest, RecallsWhatAnotherProcessPushed) {
  RunSink sink;
  ASSERT_TRUE(sink.Share());
  InAnother([&] { Push(sink, 3); });
  sink.Recall();
  Push(sink, 2);
  EXPECT_EQ(sink.Summary().leaks, 5U);
  EXPECT_EQ(sink.Summary().broken_lines, 0U);
}

TEST(RunSinkTest, LosesNothingBehindALineThatWasCutOff) {
  RunSink sink;
  ASSERT_TRUE(sink.Share());
  InAnother([&] {
    Push(sink, 1);
    constexpr std::string_view kHalf = R"({"@timestamp":)";
    (void)!write(SharedFd(), kHalf.data(), kHalf.size());
  });
  sink.Recall();
  Push(sink, 2);
  EXPECT_EQ(sink.Summary().leaks, 3U);
  EXPECT_EQ(sink.Summary().broken_lines, 1U);
}

}  // namespace
}  // namespace oakum::cli
