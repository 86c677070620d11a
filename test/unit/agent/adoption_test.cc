// What a new agent does where there is no room for the sessions that it takes up.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "test/unit/agent/recovery_testing.h"

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A cgroup of this process in which no further thread can be started (pids.max), until it is
// opened.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
      const size_t name = line.find(':') + 1;
      const size_t path = line.find(':', name) + 1;
      const std::string controllers = line.substr(name, path - name - 1);
      if (controllers == "pids" || (controllers.empty() && before_.empty())) {
        before_ =
            (controllers == "pids" ? "/sys/fs/cgroup/pids" : "/sys/fs/cgroup") + line.substr(path);
      }
    }
    path_ = fmt::format("{}/oakum-test-{}", before_, getpid());
    std::error_code ignored;
    std::filesystem::create_directory(path_, ignored);
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    const auto threads = std::distance(begin(tasks), end(tasks));
    there_ = Write(path_ + "/pids.max", std::to_string(threads)) &&
             Write(path_ + "/cgroup.procs", std::to_string(getpid()));
  }
  ~NoMoreThreads() {
    (void)Write(before_ + "/cgroup.procs", std::to_string(getpid()));
    (void)rmdir(path_.c_str());
  }
  NoMoreThreads(const NoMoreThreads&) = delete;
  NoMoreThreads& operator=(const NoMoreThreads&) = delete;

  // False: this kernel or this user has no such cgroups.
  [[nodiscard]] bool there() const { return there_; }
  void Open() { (void)Write(path_ + "/pids.max", "max"); }

 private:
  static bool Write(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    return !file.fail();
  }

  std::string before_;
  std::string path_;
  bool there_ = false;
};

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
