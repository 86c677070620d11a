#include "hook/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace oakum::hook {
namespace {

TEST(Report, IsALineThatEnginesRead) {
  EXPECT_EQ(
      FormatRuntimeLog("no \"x\"\nhere", true, 0),
      "{\"level\":\"error\",\"msg\":\"no \\\"x\\\"\\nhere\",\"time\":\"1970-01-01T00:00:00Z\"}\n");
  EXPECT_EQ(FormatRuntimeLog("no x", false, 0),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"no x\"\n");
}

TEST(Report, IsOneLine) { EXPECT_EQ(OneLine("a:1: x\na:2: y"), "a:1: x; a:2: y"); }

TEST(Report, IsAppendedToTheLog) {
  const std::string path = testing::TempDir() + "oakum-report-test.log";
  unlink(path.c_str());
  ReportToRuntimeLog({.path = "file:" + path, .json = false}, "one", 0);
  ReportToRuntimeLog({.path = path, .json = true}, "two", 0);
  const auto text = ReadFile(path, 4096);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, FormatRuntimeLog("one", false, 0) + FormatRuntimeLog("two", true, 0));
  unlink(path.c_str());
}

}  // namespace
}  // namespace oakum::hook
