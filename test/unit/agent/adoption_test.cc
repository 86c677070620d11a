// What a new agent does where there is no room for the sessions that it takes up.
#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "test/unit/agent/no_more_threads.h"
#include "test/unit/agent/recovery_testing.h"

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class AdoptionTest : public RecoveryTest {
 protected:
  // A container whose call waits for an agent.
  void Begin(uint16_t port) {
    Start([port] { return ConnectError(port); });
    Die([](JournalSlot&, int) {});
  }
};

TEST_F(AdoptionTest, WaitsForAThread) {
  const Server server(SOCK_STREAM);
  Begin(server.port());
  auto agent = NewAgent();
  std::atomic<bool> closed{false};
  std::atomic<NoMoreThreads*> room{nullptr};
  std::jthread opener([&] {
    while (!closed.load()) {
      usleep(1000);
    }
    usleep(200'000);
    if (NoMoreThreads* const there = room.load(); there != nullptr) {
      there->Open();
    }
  });
  NoMoreThreads full;
  room.store(full.there() ? &full : nullptr);
  const auto begun = std::chrono::steady_clock::now();
  closed.store(true);
  if (!full.there()) {
    GTEST_SKIP() << "needs a pids cgroup of its own";
  }
  const auto adopted = agent->Adopt(store_.Items());
  opener.join();  // it uses `full`
  ASSERT_TRUE(adopted.has_value());
  EXPECT_EQ(*adopted, 1U);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(200));
  EXPECT_EQ(process_->Wait(), 0);
}

// Takes as long as an agent waits: in one build.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_F(AdoptionTest, LeavesWhereItIsWhatThereIsNoRoomFor) {
  const Server server(SOCK_STREAM);
  Begin(server.port());
  {
    auto agent = NewAgent();
    const NoMoreThreads full;
    if (!full.there()) {
      GTEST_SKIP() << "needs a pids cgroup of its own";
    }
    const auto adopted = agent->Adopt(store_.Items());
    ASSERT_TRUE(adopted.has_value());
    EXPECT_EQ(*adopted, 0U);
    EXPECT_THAT(agent->List(), IsEmpty());
  }
  EXPECT_THAT(store_.Items(), SizeIs(1));
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
}
#endif

}  // namespace
}  // namespace oakum::agent
