#include "agent/session/concurrent_callers.h"

#include <gtest/gtest.h>

namespace oakum::agent {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class ConcurrentCallersTest : public ::testing::Test {
 protected:
  // What Note() says of a call by `tid` that comes `after` the one before it.
  bool Note(pid_t tid, ConcurrentCallers::Clock::duration after) {
    time_ += after;
    return callers_.Note(tid, [this] {
      ++asked_;
      return time_;
    });
  }

  ConcurrentCallers callers_;
  ConcurrentCallers::Clock::time_point time_{milliseconds(1)};
  int asked_ = 0;
};

TEST_F(ConcurrentCallersTest, OneThreadIsNot) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Note(1, microseconds(10)));
  }
  EXPECT_EQ(asked_, 1) << "the time of each of its calls";
}

TEST_F(ConcurrentCallersTest, SeveralThatTakeTurnsAre) {
  EXPECT_FALSE(Note(1, milliseconds(5)));
  EXPECT_FALSE(Note(2, milliseconds(5)));
  EXPECT_TRUE(Note(1, microseconds(100)));
  EXPECT_TRUE(Note(1, microseconds(100)));
  EXPECT_TRUE(Note(3, microseconds(100)));
  EXPECT_TRUE(Note(2, microseconds(900)));
}

TEST_F(ConcurrentCallersTest, OneAfterTheOtherAreNot) {
  for (pid_t tid = 1; tid < 20; ++tid) {
    EXPECT_FALSE(Note(tid, milliseconds(2)));
    EXPECT_FALSE(Note(tid, microseconds(10)));
  }
}

TEST_F(ConcurrentCallersTest, TheOneThatIsLeftIsNot) {
  (void)Note(1, microseconds(0));
  (void)Note(2, microseconds(100));
  EXPECT_TRUE(Note(1, microseconds(100)));
  EXPECT_TRUE(Note(1, microseconds(500)));
  EXPECT_FALSE(Note(1, microseconds(500)));
  EXPECT_FALSE(Note(1, microseconds(10)));
  EXPECT_FALSE(Note(2, microseconds(10))) << "the first change after a while";
  EXPECT_TRUE(Note(1, microseconds(10)));
}

}  // namespace
}  // namespace oakum::agent
