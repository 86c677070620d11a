#include "agent/session/concurrent_callers.h"

#include <gtest/gtest.h>

namespace oakum::agent {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class ConcurrentCallersTest : public ::testing::Test {
 protected:
  // What Begin() says of a call by `tid` that comes `after` the one before it has been dealt with,
  // and takes `work`.
  bool Call(pid_t tid, microseconds after, microseconds work = microseconds(20)) {
    const auto now = [this] {
      ++asked_;
      return time_;
    };
    time_ += after;
    const bool spread = callers_.Begin(tid, now);
    time_ += work;
    callers_.End(now);
    return spread;
  }

  // How many of these calls by two threads in turns are answered to callers that are spread.
  int Turns(int count, microseconds after, microseconds work = microseconds(20)) {
    int spread = 0;
    for (int i = 0; i < count; ++i) {
      spread += Call(1 + i % 2, after, work) ? 1 : 0;
    }
    return spread;
  }

  ConcurrentCallers callers_;
  ConcurrentCallers::Clock::time_point time_{milliseconds(1)};
  int asked_ = 0;
};

TEST_F(ConcurrentCallersTest, OneThreadIsNotSpread) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Call(1, microseconds(100)));
  }
  EXPECT_EQ(asked_, 1) << "the time of each of its calls";
}

TEST_F(ConcurrentCallersTest, SeveralThatWorkBetweenTheirCallsAre) {
  EXPECT_EQ(Turns(3, microseconds(100)), 0) << "before anything is known";
  EXPECT_GE(Turns(100, microseconds(100)), 90);
  // Answered where they do not wait for each other, they wait less often for an answer.
  EXPECT_EQ(Turns(200, microseconds(12)), 200);
}

TEST_F(ConcurrentCallersTest, SeveralThatDoNothingButCallAreNot) {
  EXPECT_EQ(Turns(1000, microseconds(2)), 0);
  EXPECT_FALSE(Call(1, microseconds(900))) << "a pause";
  EXPECT_EQ(Turns(1000, microseconds(2)), 0);
}

TEST_F(ConcurrentCallersTest, ThoseThatStopWorkingAreGatheredAgain) {
  Turns(100, microseconds(100));
  EXPECT_LT(Turns(300, microseconds(2)), 200);
  EXPECT_EQ(Turns(100, microseconds(2)), 0);
}

TEST_F(ConcurrentCallersTest, OneAfterTheOtherAreNot) {
  Turns(100, microseconds(100));
  for (pid_t tid = 10; tid < 30; ++tid) {
    EXPECT_FALSE(Call(tid, milliseconds(2)));
    EXPECT_FALSE(Call(tid, microseconds(10)));
  }
}

TEST_F(ConcurrentCallersTest, TheOneThatIsLeftIsNot) {
  Turns(100, microseconds(100));
  EXPECT_TRUE(Call(2, microseconds(100)));
  EXPECT_TRUE(Call(2, microseconds(700)));
  EXPECT_FALSE(Call(2, microseconds(700)));
  EXPECT_FALSE(Call(2, microseconds(10)));
}

}  // namespace
}  // namespace oakum::agent
