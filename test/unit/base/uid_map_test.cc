#include "base/uid_map.h"

#include <gtest/gtest.h>

namespace oakum {
namespace {

TEST(UidMap, HasTheLinesAsTheKernelWritesThem) {
  EXPECT_EQ(ParseUidMap("         0          0 4294967295\n"),
            (std::vector<UidRange>{{0, 0, 4'294'967'295}}));
  EXPECT_EQ(ParseUidMap("         0       1000          1\n         1     100000      65536\n"),
            (std::vector<UidRange>{{0, 1000, 1}, {1, 100'000, 65'536}}));
}

TEST(UidMap, EndsAtTheFirstLineThatIsNone) {
  EXPECT_TRUE(ParseUidMap("").empty());
  EXPECT_TRUE(ParseUidMap("\n").empty());
  EXPECT_TRUE(ParseUidMap("0 0\n").empty());
  EXPECT_TRUE(ParseUidMap("0 0 -1\n").empty());
  EXPECT_TRUE(ParseUidMap("0 0 99999999999999999999999\n").empty());
  EXPECT_EQ(ParseUidMap("0 1000 1\nx 1 1\n"), (std::vector<UidRange>{{0, 1000, 1}}));
}

}  // namespace
}  // namespace oakum
