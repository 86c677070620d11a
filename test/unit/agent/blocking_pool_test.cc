#include "agent/server/blocking_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <set>
#include <thread>

#include "test/unit/agent/no_more_threads.h"

namespace oakum::agent {
namespace {

constexpr std::chrono::seconds kPatience{20};

TEST(BlockingPoolTest, AThreadThatHasEndedItsJobTakesTheNext) {
  BlockingPool pool;
  const int owner = 0;
  std::set<std::thread::id> threads;
  for (uint64_t i = 0; i < 20; ++i) {
    std::promise<std::thread::id> ran;
    pool.Run(&owner, i, [&] { ran.set_value(std::this_thread::get_id()); });
    auto id = ran.get_future();
    ASSERT_EQ(id.wait_for(kPatience), std::future_status::ready);
    threads.insert(id.get());
    usleep(1'000);
  }
  EXPECT_LT(threads.size(), 10U);
}

// However many threads happen to be idle, no job waits behind one that is stuck.
TEST(BlockingPoolTest, AJobThatIsStuckKeepsNoOtherFromRunning) {
  BlockingPool pool;
  const int stuck = 0;
  const int other = 0;
  std::promise<void> go;
  const auto gone = go.get_future().share();
  uint64_t key = 0;
  for (int round = 0; round < 30; ++round) {
    std::atomic<int> left{4};
    std::promise<void> all;
    pool.Run(&stuck, key++, [gone] { gone.wait(); });
    for (int i = 0; i < 4; ++i) {
      pool.Run(&other, key++, [&] {
        if (--left == 0) {
          all.set_value();
        }
      });
    }
    ASSERT_EQ(all.get_future().wait_for(kPatience), std::future_status::ready) << round;
    usleep(500);  // some are idle in the next round
  }
  go.set_value();
}

TEST(BlockingPoolTest, OneOwnerHasItsBoundOnly) {
  BlockingPool pool;
  const int owner = 0;
  const int other = 0;
  std::promise<void> go;
  const auto gone = go.get_future().share();
  std::atomic<size_t> running{0};
  const size_t jobs = BlockingPool::kMaxThreadsPerOwner + 8;
  std::atomic<size_t> ended{0};
  for (uint64_t i = 0; i < jobs; ++i) {
    pool.Run(&owner, i, [&, gone] {
      ++running;
      gone.wait();
      --running;
      ++ended;
    });
  }
  for (int i = 0; i < 2000 && running < BlockingPool::kMaxThreadsPerOwner; ++i) {
    usleep(10'000);
  }
  std::promise<void> ran;
  pool.Run(&other, jobs, [&] { ran.set_value(); });
  EXPECT_EQ(ran.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(running, BlockingPool::kMaxThreadsPerOwner);
  go.set_value();
  for (int i = 0; i < 2000 && ended < jobs; ++i) {
    usleep(10'000);
  }
  EXPECT_EQ(ended, jobs);
}

TEST(BlockingPoolTest, JobsWaitForAThreadWhereNoOtherCanBeStarted) {
  BlockingPool pool;
  const NoMoreThreads full;
  if (!full.there()) {
    GTEST_SKIP() << "needs a pids cgroup of its own";
  }
  const int one = 0;
  const int other = 0;
  std::atomic<size_t> ended{0};
  const size_t jobs = 40;
  for (uint64_t i = 0; i < jobs; ++i) {
    pool.Run(i % 2 == 0 ? &one : &other, i, [&] {
      usleep(1'000);
      ++ended;
    });
  }
  for (int i = 0; i < 2000 && ended < jobs; ++i) {
    usleep(10'000);
  }
  EXPECT_EQ(ended, jobs);
}

// A job that hangs has the one thread that there is: others wait until there is room for another
// one, and not until somebody has one more job.
TEST(BlockingPoolTest, AJobThatHangsHoldsOthersUpAsLongAsThereIsNoRoom) {
  BlockingPool pool;
  const int stuck = 0;
  const int other = 0;
  std::promise<void> go;
  const auto gone = go.get_future().share();
  std::promise<void> hangs;
  std::atomic<uint64_t> ended{0};
  uint64_t jobs = 0;
  {
    NoMoreThreads full;
    if (!full.there()) {
      GTEST_SKIP() << "needs a pids cgroup of its own";
    }
    pool.Run(&stuck, 0, [&, gone] {
      hangs.set_value();
      gone.wait();
    });
    ASSERT_EQ(hangs.get_future().wait_for(kPatience), std::future_status::ready);
    ParkedThreads parked;
    for (; jobs < 10 && ended == jobs; usleep(100'000)) {
      parked.Fill();
      pool.Run(&other, ++jobs, [&] { ++ended; });
    }
    EXPECT_LT(ended, jobs);
    full.Open();
    for (int i = 0; i < 2000 && ended < jobs; ++i) {
      usleep(10'000);
    }
  }
  EXPECT_EQ(ended, jobs);
  go.set_value();
}

}  // namespace
}  // namespace oakum::agent
