// Sessions without calls have no thread, and whatever comes meets one.
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "test/unit/agent/guarded_session.h"
#include "test/unit/agent/no_more_threads.h"

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;

// How many threads of this process have a session's name.
size_t SessionThreads() {
  size_t count = 0;
  std::error_code ignored;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream file(task.path() / "comm");
    std::string name;
    count += std::getline(file, name) && name == "session" ? 1 : 0;
  }
  return count;
}

template <typename Condition>
bool Soon(const Condition& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) {
      return true;
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

bool BecomesQuiet() {
  return Soon([] { return SessionThreads() == 0; });
}

// A byte each way between the test and a child.
class Line {
 public:
  Line() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0); }
  ~Line() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  void Tell(char what) { EXPECT_EQ(write(ends_[0], &what, 1), 1); }
  int Hear() { return Read(ends_[0]); }
  // 1 where something can be heard.
  bool Heard() {
    char what = 0;
    return recv(ends_[0], &what, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
  }
  // By the child, which may not send(2).
  void Answer(int what) {
    const char byte = static_cast<char>(what);
    (void)!write(ends_[1], &byte, 1);
  }
  int Wait() { return Read(ends_[1]); }

 private:
  static int Read(int fd) {
    char what = 0;
    return read(fd, &what, 1) == 1 ? what : -1;
  }
  int ends_[2] = {-1, -1};
};

// A guarded call, and its error.
int Call(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in address = Loopback(port);
  const int error =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return error;
}

std::string AllowAll() {
  return Policies("enforce", R"("outgoing": {"default": "deny", "allow": ["127.0.0.0/8"]},
                                "incoming": {"default": "deny", "allow": ["* from 127.0.0.1"]})");
}

Options QuietAfter(int ms) {
  Options options;
  options.quiet_after = milliseconds(ms);
  return options;
}

// Connects whenever it is told to, and says with what error.
class QuietSessionTest : public ::testing::Test {
 protected:
  int Caller() {
    while (line_.Wait() == 'c') {
      line_.Answer(Call(server_.port()));
    }
    return 0;
  }

  Server server_{SOCK_DGRAM};
  Line line_;
};

TEST_F(QuietSessionTest, HasNoThreadUntilItIsCalled) {
  Guarded guarded(AllowAll(), QuietAfter(50));
  GuardedProcess process(guarded.Plan(), [&](int) { return Caller(); });
  guarded.Attach(process);
  process.Go();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(BecomesQuiet());
    line_.Tell('c');
    EXPECT_EQ(line_.Hear(), 0);
  }
  EXPECT_EQ(guarded.manager().Totals().calls, 3);
  // Nor does its end need one.
  EXPECT_TRUE(BecomesQuiet());
  line_.Tell('e');
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_TRUE(Soon([&] { return guarded.manager().List().empty(); }));
}

TEST_F(QuietSessionTest, KeepsItsThreadWhileThereAreCalls) {
  Guarded guarded(AllowAll(), QuietAfter(1000));
  GuardedProcess process(guarded.Plan(), [&](int) { return Caller(); });
  guarded.Attach(process);
  process.Go();
  const auto until = std::chrono::steady_clock::now() + milliseconds(1800);
  while (std::chrono::steady_clock::now() < until) {
    const auto before = std::chrono::steady_clock::now();
    line_.Tell('c');
    EXPECT_EQ(line_.Hear(), 0);
    std::this_thread::sleep_for(milliseconds(20));
    const size_t threads = SessionThreads();
    if (std::chrono::steady_clock::now() - before < milliseconds(300)) {  // a busy machine
      EXPECT_EQ(threads, 1);
    }
  }
  line_.Tell('e');
  EXPECT_EQ(process.Wait(), 0);
}

TEST_F(QuietSessionTest, CallsThatWaitGoOnWithoutOne) {
  Guarded guarded(AllowAll(), QuietAfter(50));
  GuardedProcess process(guarded.Plan(), [&](int) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in own = Loopback(0);
    socklen_t length = sizeof own;
    if (bind(fd, reinterpret_cast<sockaddr*>(&own), length) != 0 || listen(fd, 4) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) != 0) {
      return 1;
    }
    line_.Answer(own.sin_port & 0xff);
    line_.Answer(own.sin_port >> 8);
    const int accepted = accept(fd, nullptr, nullptr);
    line_.Answer(accepted >= 0 ? 0 : errno);
    return Call(server_.port());
  });
  guarded.Attach(process);
  process.Go();
  const int low = line_.Hear() & 0xff;
  const uint16_t port = ntohs(static_cast<uint16_t>(low | (line_.Hear() & 0xff) << 8));
  EXPECT_TRUE(BecomesQuiet());
  ASSERT_EQ(guarded.manager().List().size(), 1);
  EXPECT_TRUE(Soon([&] { return guarded.manager().List()[0].waiting == 1; }));
  EXPECT_EQ(ConnectError(port), 0);
  EXPECT_EQ(line_.Hear(), 0);
  EXPECT_EQ(process.Wait(), 0);
}

TEST_F(QuietSessionTest, CallsWaitWhereNoThreadCanBeStarted) {
  Guarded guarded(AllowAll(), QuietAfter(50));
  GuardedProcess process(guarded.Plan(), [&](int) { return Caller(); });
  guarded.Attach(process);
  process.Go();
  EXPECT_TRUE(BecomesQuiet());
  NoMoreThreads full;
  if (!full.there()) {
    GTEST_SKIP() << "needs a pids cgroup of its own";
  }
  ParkedThreads parked;
  bool waits = false;
  for (int i = 0; i < 10 && !waits; ++i) {
    parked.Fill();
    line_.Tell('c');
    std::this_thread::sleep_for(milliseconds(100));
    waits = !line_.Heard();
    if (!waits) {
      EXPECT_EQ(line_.Hear(), 0);
      EXPECT_TRUE(BecomesQuiet());
    }
  }
  EXPECT_TRUE(waits);
  full.Open();
  if (waits) {
    EXPECT_EQ(line_.Hear(), 0);
  }
  line_.Tell('e');
  EXPECT_EQ(process.Wait(), 0);
}

TEST_F(QuietSessionTest, EndsWhileItWaitsForAThread) {
  Guarded guarded(AllowAll(), QuietAfter(50));
  GuardedProcess process(guarded.Plan(), [&](int) { return Caller(); });
  guarded.Attach(process);
  process.Go();
  EXPECT_TRUE(BecomesQuiet());
  NoMoreThreads full;
  if (!full.there()) {
    GTEST_SKIP() << "needs a pids cgroup of its own";
  }
  line_.Tell('c');
  std::this_thread::sleep_for(milliseconds(50));
  kill(process.pid(), SIGKILL);
  EXPECT_EQ(process.Wait(), -SIGKILL);
  EXPECT_TRUE(Soon([&] { return guarded.manager().List().empty(); }));
  full.Open();
}

// Calls that come at the very moment when the thread is told to end: none is lost, made twice, or
// interrupted.
TEST_F(QuietSessionTest, CallsMeetItsEnd) {
  Guarded guarded(AllowAll(), QuietAfter(5));
  constexpr int kCalls = 400;
  GuardedProcess process(guarded.Plan(), [&](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in address = Loopback(server_.port());
    unsigned chance = 1;
    for (int i = 0; i < kCalls; ++i) {
      chance = chance * 1103515245 + 12345;
      usleep(4'000 + (chance >> 16) % 6'000);
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return errno;
      }
    }
    return 0;
  });
  guarded.Attach(process);
  std::atomic<bool> over{false};
  size_t quiet = 0;
  std::thread watch([&] {
    for (size_t before = 1; !over.load();) {
      const size_t now = SessionThreads();
      quiet += before == 1 && now == 0 ? 1 : 0;
      before = now;
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  process.Go();
  EXPECT_EQ(process.Wait(), 0);
  over.store(true);
  watch.join();
  EXPECT_EQ(guarded.manager().Totals().calls, kCalls);
  EXPECT_GT(quiet, 0);
}

TEST_F(QuietSessionTest, ManyTakeTurns) {
  Guarded guarded(AllowAll(), QuietAfter(50));
  constexpr size_t kSessions = 40;
  std::vector<std::unique_ptr<Line>> lines;
  std::vector<std::unique_ptr<GuardedProcess>> processes;
  for (size_t i = 0; i < kSessions; ++i) {
    Line& line = *lines.emplace_back(std::make_unique<Line>());
    processes.push_back(std::make_unique<GuardedProcess>(guarded.Plan(), [&](int) {
      while (line.Wait() == 'c') {
        line.Answer(Call(server_.port()));
      }
      return 0;
    }));
    guarded.Attach(*processes.back(), std::to_string(i));
    processes.back()->Go();
  }
  EXPECT_TRUE(BecomesQuiet());
  for (int round = 0; round < 2; ++round) {
    for (const auto& line : lines) {
      line->Tell('c');
    }
    for (const auto& line : lines) {
      EXPECT_EQ(line->Hear(), 0);
    }
    EXPECT_TRUE(BecomesQuiet());
  }
  for (size_t i = 0; i < kSessions; ++i) {
    lines[i]->Tell('e');
    EXPECT_EQ(processes[i]->Wait(), 0);
  }
  EXPECT_TRUE(Soon([&] { return guarded.manager().List().empty(); }));
}

}  // namespace
}  // namespace oakum::agent
