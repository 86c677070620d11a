#include "agent/server/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <vector>

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;

class EventLoopTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventLoop> loop_ = EventLoop::Create().value();
};

TEST_F(EventLoopTest, CallbackMayRemoveAnotherOfTheSameRound) {
  const UniqueFd first(eventfd(1, EFD_CLOEXEC));
  const UniqueFd second(eventfd(1, EFD_CLOEXEC));
  int calls = 0;
  const auto both = [&](uint32_t) {
    ++calls;
    loop_->Remove(first.get());
    loop_->Remove(second.get());
  };
  ASSERT_TRUE(loop_->Add(first.get(), EPOLLIN, both));
  ASSERT_TRUE(loop_->Add(second.get(), EPOLLIN, both));
  ASSERT_TRUE(loop_->RunOnce(milliseconds(10)));
  ASSERT_TRUE(loop_->RunOnce(milliseconds(1)));
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, NumberThatIsUsedAgainDoesNotInheritAnEvent) {
  UniqueFd first(eventfd(1, EFD_CLOEXEC));
  UniqueFd second(eventfd(1, EFD_CLOEXEC));
  const int number = second.get();
  int inherited = 0;
  const auto replace = [&](uint32_t) {
    loop_->Remove(first.get());
    loop_->Remove(number);
    second.Reset();
    second.Reset(eventfd(0, EFD_CLOEXEC));
    ASSERT_EQ(second.get(), number);
    ASSERT_TRUE(loop_->Add(number, EPOLLIN, [&](uint32_t) { ++inherited; }));
  };
  ASSERT_TRUE(loop_->Add(first.get(), EPOLLIN, replace));
  ASSERT_TRUE(loop_->Add(number, EPOLLIN, [&](uint32_t) {}));
  ASSERT_TRUE(loop_->RunOnce(milliseconds(10)));
  EXPECT_EQ(inherited, 0);
}

TEST_F(EventLoopTest, TimersComeInOrderAndOnce) {
  std::vector<int> order;
  loop_->AddTimer(milliseconds(5), [&] {
    order.push_back(2);
    loop_->Stop();
  });
  loop_->AddTimer(milliseconds(1), [&] { order.push_back(1); });
  const auto removed = loop_->AddTimer(milliseconds(2), [&] { order.push_back(9); });
  loop_->RemoveTimer(removed);
  ASSERT_TRUE(loop_->Run());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST_F(EventLoopTest, ErrorsAreErrors) {
  EXPECT_EQ(loop_->Add(-1, EPOLLIN, [](uint32_t) {}).error().code, EBADF);
  EXPECT_EQ(loop_->Modify(0, EPOLLIN).error().code, ENOENT);
}

}  // namespace
}  // namespace oakum::agent
