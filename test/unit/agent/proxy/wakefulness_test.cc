// How long a thread without work stays awake: on a clock of the test's, and a worker's own.
#include "agent/proxy/wakefulness.h"

#include <gtest/gtest.h>

#include <ctime>
#include <future>
#include <thread>

#include "agent/proxy/dial.h"
#include "agent/proxy/worker.h"
#include "scripted_proxy.h"

namespace oakum::agent {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class WakefulnessTest : public testing::Test {
 protected:
  // Waits once, for something that comes after `comes_after`, and counts the looks and the time.
  bool Wait(microseconds comes_after) {
    wakefulness_.Job();
    const auto start = now_;
    const bool came = wakefulness_.Waits([&] {
      ++looks_;
      return now_ - start >= comes_after;
    });
    awake_ += now_ - start;
    return came;
  }

  Wakefulness::Clock::time_point now_{std::chrono::hours(1)};
  microseconds step_{2};  // what a look and letting others run take
  Wakefulness wakefulness_{[this] { return now_; }, [this] { now_ += step_; }};
  size_t looks_ = 0;
  Wakefulness::Clock::duration awake_{0};
};

TEST_F(WakefulnessTest, WhatComesSoonIsWaitedFor) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(Wait(microseconds(40)));
  }
}

TEST_F(WakefulnessTest, NeverForLongerThanItMay) {
  EXPECT_FALSE(Wait(milliseconds(10)));
  EXPECT_LE(awake_, Wakefulness::kLooks + step_);
  EXPECT_LE(looks_, static_cast<size_t>(Wakefulness::kLooks / step_) + 1);
}

TEST_F(WakefulnessTest, HardlyAtAllForAProxyThatNeverAnswers) {
  constexpr int kWaits = 10000;
  for (int i = 0; i < kWaits; ++i) {
    ASSERT_FALSE(Wait(std::chrono::hours(1)));
  }
  constexpr int kTried = Wakefulness::kMaxCredit / 2 + kWaits / int{Wakefulness::kTriesAgain} + 1;
  EXPECT_LE(awake_, kTried * (Wakefulness::kLooks + step_));
}

TEST_F(WakefulnessTest, WhatIsThereAlreadyIsNoReasonToWait) {
  for (int i = 0; i < Wakefulness::kMaxCredit / 2; ++i) {
    EXPECT_TRUE(Wait(microseconds(0)));
    EXPECT_FALSE(Wait(std::chrono::hours(1)));
  }
  looks_ = 0;
  EXPECT_FALSE(Wait(microseconds(0)));
  EXPECT_EQ(looks_, 0U);
}

TEST_F(WakefulnessTest, AgainWhenItHasBecomeQuick) {
  for (int i = 0; i < 100; ++i) {
    ASSERT_FALSE(Wait(std::chrono::hours(1)));
  }
  int tries = 1;
  while (!Wait(microseconds(40))) {
    ASSERT_LE(++tries, int{Wakefulness::kTriesAgain});
  }
  EXPECT_TRUE(Wait(microseconds(40)));
}

TEST_F(WakefulnessTest, NotWhereOthersTakeTheProcessor) {
  step_ = milliseconds(3);  // something has come when it is given back
  for (int i = 0; i < Wakefulness::kMaxCredit / 2; ++i) {
    EXPECT_TRUE(Wait(milliseconds(1)));
  }
  looks_ = 0;
  EXPECT_FALSE(Wait(milliseconds(1)));
  EXPECT_EQ(looks_, 0U);
}

TEST_F(WakefulnessTest, NotWithoutAJobLately) {
  const auto look = [&] {
    ++looks_;
    return true;
  };
  EXPECT_FALSE(wakefulness_.Waits(look));
  wakefulness_.Job();
  EXPECT_TRUE(wakefulness_.Waits(look));
  now_ += Wakefulness::kLively;
  EXPECT_FALSE(wakefulness_.Waits(look));
  EXPECT_EQ(looks_, 1U);
}

// The processor time of the worker's thread so far.
std::chrono::nanoseconds TimeOf(Worker& worker) {
  std::promise<timespec> time;
  worker.Post([&time] {
    timespec used = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    time.set_value(used);
  });
  const timespec used = time.get_future().get();
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

TEST(WorkerTest, SleepsWhileAProxyDoesNotAnswer) {
  ScriptedProxy silent([](ProxySide& side) { side.AwaitEnd(); });
  auto worker = Worker::Create("silent");
  ASSERT_TRUE(worker.has_value());
  policy::Proxy proxy;
  proxy.urls = {silent.Url("socks5h")};
  Upstreams upstreams;
  std::unique_ptr<Dial> dial;  // the worker's
  const auto before = TimeOf(**worker);
  (*worker)->Post([&] {
    DialRequest request;
    request.proxy = &proxy;
    request.target.name = "example.com";
    dial = Dial::Start((*worker)->loop(), upstreams, std::move(request), [](const DialResult&) {});
  });
  constexpr milliseconds kWhile{500};
  std::this_thread::sleep_for(kWhile);
  // A spinning one takes nearly all of it, were the machine ever so busy.
  EXPECT_LT(TimeOf(**worker) - before, kWhile / 10);
  std::promise<void> ended;
  (*worker)->Post([&] {
    dial.reset();
    ended.set_value();
  });
  ended.get_future().get();
}

TEST(WorkerTest, MissesNoJobBetweenWakingAndSleeping) {
  auto worker = Worker::Create("jobs");
  ASSERT_TRUE(worker.has_value());
  for (int i = 0; i < 3000; ++i) {
    std::promise<void> ran;
    (*worker)->Post([&ran] { ran.set_value(); });
    ASSERT_EQ(ran.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready) << i;
    // About when it stops looking.
    if (i % 3 == 0) {
      std::this_thread::sleep_for(Wakefulness::kLooks);
    }
  }
}

}  // namespace
}  // namespace oakum::agent
