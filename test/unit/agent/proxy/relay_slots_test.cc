// Who gets how many slots.
#include "agent/proxy/relay_slots.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <thread>
#include <vector>

namespace oakum::agent {
namespace {

std::vector<RelaySlot> TakeAll(RelayShare& share) {
  std::vector<RelaySlot> slots;
  while (auto slot = share.Take()) {
    slots.push_back(std::move(*slot));
  }
  return slots;
}

TEST(RelaySlotsTest, OneContainerHasHalfAndTheOthersTheRest) {
  RelaySlots all(200);
  const auto first = RelayShare::Create(all);
  const auto second = RelayShare::Create(all);
  const auto third = RelayShare::Create(all);
  auto of_first = TakeAll(*first);
  EXPECT_EQ(of_first.size(), 100U);
  EXPECT_EQ(TakeAll(*second).size(), 100U);  // given back at once
  const auto of_second = TakeAll(*second);
  EXPECT_EQ(of_second.size(), 100U);
  // Nothing is left, but each has some.
  const auto of_third = TakeAll(*third);
  EXPECT_EQ(of_third.size(), RelaySlots::kAlways);
  of_first.clear();
  EXPECT_EQ(TakeAll(*third).size(), 100 - of_third.size());
}

TEST(RelaySlotsTest, EachHasSomeHoweverFewThereAre) {
  RelaySlots all(0);
  for (int i = 0; i < 3; ++i) {
    const auto share = RelayShare::Create(all);
    EXPECT_EQ(TakeAll(*share).size(), RelaySlots::kAlways);
  }
}

TEST(RelaySlotsTest, AreGivenBackOnceAndAfterTheContainer) {
  RelaySlots all(80);
  auto share = RelayShare::Create(all);
  auto slot = share->Take();
  ASSERT_TRUE(slot);
  RelaySlot moved = std::move(*slot);
  slot.reset();
  EXPECT_EQ(TakeAll(*share).size(), 39U);
  moved = RelaySlot();
  EXPECT_EQ(TakeAll(*share).size(), 40U);
  {
    const auto last = share->Take();
    share.reset();
    const auto other = RelayShare::Create(all);
    const auto another = RelayShare::Create(all);
    const auto of_other = TakeAll(*other);
    EXPECT_EQ(of_other.size(), 40U);
    EXPECT_EQ(TakeAll(*another).size(), 39U);
  }
  const auto again = RelayShare::Create(all);
  EXPECT_EQ(TakeAll(*again).size(), 40U);
}

TEST(RelaySlotsTest, ThreadsTakeAndGiveBack) {
  RelaySlots all(100);
  const auto share = RelayShare::Create(all);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 200; ++turn) {
        EXPECT_LE(TakeAll(*share).size(), 50U);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(TakeAll(*share).size(), 50U);
}

TEST(RelaySlotsTest, AreAnEighthOfTheDescriptors) {
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(RelaySlots::MaxByLimit(), limit.rlim_cur / 8);
}

}  // namespace
}  // namespace oakum::agent
