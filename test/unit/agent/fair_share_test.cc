#include "agent/server/fair_share.h"

#include <gtest/gtest.h>

#include <vector>

#include "agent/server/log_limit.h"

namespace oakum::agent {
namespace {

using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

class FairShareTest : public ::testing::Test {
 protected:
  // Each has been silent since before the one after it.
  void Take(uid_t uid, pid_t pid, int count) {
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(taken_.size());
      taken_.push_back({fd, {.uid = uid, .gid = 0, .pid = pid}, start_ + seconds(fd)});
    }
  }
  [[nodiscard]] std::optional<int> For(uid_t uid, pid_t pid) const {
    return PlaceFor({.uid = uid, .gid = 0, .pid = pid}, taken_);
  }

  const Clock::time_point start_ = Clock::now();
  std::vector<Place> taken_;
};

TEST_F(FairShareTest, TheUserWithMostGivesWay) {
  Take(0, 1, 3);
  Take(1000, 2, 1);
  Take(1000, 3, 4);
  EXPECT_EQ(For(0, 9), 4) << "the process that has most, its oldest";
  EXPECT_EQ(For(7, 9), 4);
  EXPECT_EQ(For(1000, 9), 4) << "another process of the same user";
  EXPECT_EQ(For(1000, 3), std::nullopt);
}

TEST_F(FairShareTest, ManyProcessesOfAUserAreOneUser) {
  for (pid_t pid = 1; pid <= 100; ++pid) {
    Take(1000, pid, 1);
  }
  EXPECT_EQ(For(0, 1000), 0);
  EXPECT_EQ(For(1000, 1000), std::nullopt) << "who waits for its start is not ended for a newcomer";
}

TEST_F(FairShareTest, OneProcessDoesNotKeepItsUserOut) {
  Take(0, 1, 1);
  Take(0, 2, 50);
  EXPECT_EQ(For(0, 3), 1);
  EXPECT_EQ(For(0, 1), 1);
  EXPECT_EQ(For(0, 2), std::nullopt);
}

TEST(LogLimit, CountsWhatItLeavesOut) {
  LogLimit limit;
  const auto start = Clock::now();
  int said = 0;
  for (int i = 0; i < 1'000; ++i) {
    said += limit.Ask(start) == "" ? 1 : 0;
  }
  EXPECT_EQ(said, 20);
  EXPECT_EQ(limit.Ask(start + seconds(2)), " (980 more before it were not logged)");
  EXPECT_EQ(limit.Ask(start + seconds(2)), "");
  EXPECT_EQ(limit.Ask(start + seconds(2)), std::nullopt);
}

}  // namespace
}  // namespace oakum::agent
