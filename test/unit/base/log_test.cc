#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace oakum {
namespace {

class LogTest : public testing::Test {
 protected:
  LogTest() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    reader_.Reset(ends[0]);
    writer_.Reset(ends[1]);
  }
  std::string Written() {
    writer_.Reset();
    return ReadAll(reader_.get(), 1 << 16).value_or("unreadable");
  }

  UniqueFd reader_;
  UniqueFd writer_;
};

TEST_F(LogTest, WritesOneLineAMessage) {
  const Log log("oakum-agent", LogLevel::kNotice, false, writer_.get());
  log.Notice("listening on {}", "/run/oakum/agent.sock");
  log.Error("a\nb");
  EXPECT_EQ(Written().find("oakum-agent: "), 0U);
}

TEST_F(LogTest, DropsWhatIsAboveTheThreshold) {
  const Log log("oakum-agent", LogLevel::kWarning, false, writer_.get());
  log.Notice("not this");
  log.Debug("nor this");
  log.Warning("but this");
  const std::string text = Written();
  EXPECT_EQ(text.find("not this"), std::string::npos);
  EXPECT_EQ(text.find("nor this"), std::string::npos);
  EXPECT_NE(text.find("but this\n"), std::string::npos);
}

TEST_F(LogTest, PrefixesPrioritiesForTheJournal) {
  const Log log("oakum-agent", LogLevel::kInfo, true, writer_.get());
  log.Error("broken");
  EXPECT_EQ(Written().substr(0, 3), "<3>");
}

}  // namespace
}  // namespace oakum
