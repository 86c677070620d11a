// Signals, stops and debuggers reach a caller whose call the agent waits for, as natively, also
// where its filter lets it sleep through them (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).
#include <netinet/in.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "agent/session/delivered.h"
#include "agent/session/look_queue.h"
#include "test/unit/agent/hostile_testing.h"

namespace oakum::agent {
namespace {

struct Guard {
  const char* name;
  bool guarded;
  Options options;
  bool wait_killable;
};

constexpr int kInterrupted = 40;  // EINTR, and the handler has run
constexpr int kHandled = 42;      // the handler has ended the program

std::atomic<int> ticks{0};

void Alarm(bool restart, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = restart ? SA_RESTART : 0;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval timer = {{0, 100'000}, {0, 100'000}};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

void Tick(int) { ticks.fetch_add(1); }
// The third one: the call has been made again twice by then.
[[maybe_unused]] void EndAtThird(int) {
  if (ticks.fetch_add(1) == 2) {
    _exit(kHandled);
  }
}

int Interrupted(ssize_t result) {
  if (result == -1 && errno == EINTR) {
    return ticks.load() > 0 ? kInterrupted : 1;
  }
  return result == -1 ? errno : 2;
}

int Connect(int fd, uint16_t port) {
  const sockaddr_in address = Loopback(port);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int Listening() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in any = Loopback(0);
  bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any);
  listen(fd, 1);
  return fd;
}

std::string Everything() {
  return Policies("enforce",
                  R"("outgoing": {"default": "allow"},
                     "incoming": {"default": "deny", "allow": ["* from 127.0.0.0/8"]})");
}

class SignalsTest : public testing::TestWithParam<Guard> {
 protected:
  SignalsTest() : guarded_(Everything(), GetParam().options) {}

  // A program that has been started, guarded or not.
  std::unique_ptr<GuardedProcess> Start(const std::function<int(int)>& body) {
    auto process = std::make_unique<GuardedProcess>(
        GetParam().guarded ? guarded_.Plan() : oci::SeccompPlan(), body, GetParam().wait_killable);
    if (GetParam().guarded) {
      guarded_.Attach(*process);
    }
    process->Go();
    return process;
  }
  int Run(const std::function<int(int)>& body) { return Start(body)->Wait(); }
  // Until the program's call has come to the agent.
  void AwaitCall() const {
    const auto waits = [&] {
      const auto sessions = guarded_.manager().List();
      return !sessions.empty() && sessions[0].waiting > 0;
    };
    for (int i = 0; GetParam().guarded && i < 1000 && !waits(); ++i) {
      usleep(10'000);
    }
    usleep(100'000);
  }

  mutable Guarded guarded_;
  const FullServer full_;
};

TEST_P(SignalsTest, AHandlerInterruptsConnect) {
  EXPECT_EQ(Run([&](int) {
              const int fd = socket(AF_INET, SOCK_STREAM, 0);
              Alarm(false, Tick);
              return Interrupted(Connect(fd, full_.port()));
            }),
            kInterrupted);
}

TEST_P(SignalsTest, AHandlerInterruptsAccept) {
  EXPECT_EQ(Run([&](int) {
              const int fd = Listening();
              Alarm(false, Tick);
              return Interrupted(accept(fd, nullptr, nullptr));
            }),
            kInterrupted);
}

#if !defined(__SANITIZE_THREAD__)  // which puts a handler off until the call has ended, bare too
TEST_P(SignalsTest, WithSaRestartTheCallGoesOn) {
  EXPECT_EQ(Run([&](int) {
              const int fd = socket(AF_INET, SOCK_STREAM, 0);
              Alarm(true, EndAtThird);
              return Interrupted(Connect(fd, full_.port()));
            }),
            kHandled);
  EXPECT_EQ(Run([&](int) {
              const int fd = Listening();
              Alarm(true, EndAtThird);
              return Interrupted(accept(fd, nullptr, nullptr));
            }),
            kHandled);
}
#endif

// signal(7), "Interruption of system calls": a time limit takes SA_RESTART away.
TEST_P(SignalsTest, WithATimeLimitNothingIsRestarted) {
  const auto limit = [](int fd, int option) {
    const timeval time = {30, 0};
    setsockopt(fd, SOL_SOCKET, option, &time, sizeof time);
    return fd;
  };
  EXPECT_EQ(Run([&](int) {
              const int fd = limit(socket(AF_INET, SOCK_STREAM, 0), SO_SNDTIMEO);
              Alarm(true, Tick);
              return Interrupted(Connect(fd, full_.port()));
            }),
            kInterrupted);
  EXPECT_EQ(Run([&](int) {
              const int fd = limit(Listening(), SO_RCVTIMEO);
              Alarm(true, Tick);
              return Interrupted(accept(fd, nullptr, nullptr));
            }),
            kInterrupted);
}

// A stop is complete, and seen by the parent, once the last thread has stopped.
TEST_P(SignalsTest, StopsContinuesAndIsKilled) {
  GuardedProcess& process =
      *Start([&](int) { return Connect(socket(AF_INET, SOCK_STREAM, 0), full_.port()); }).release();
  const std::unique_ptr<GuardedProcess> owner(&process);
  AwaitCall();
  for (int i = 0; i < 2; ++i) {
    int status = 0;
    ASSERT_EQ(kill(process.pid(), SIGSTOP), 0);
    ASSERT_EQ(waitpid(process.pid(), &status, WUNTRACED), process.pid());
    EXPECT_TRUE(WIFSTOPPED(status));
    ASSERT_EQ(kill(process.pid(), SIGCONT), 0);
    ASSERT_EQ(waitpid(process.pid(), &status, WCONTINUED), process.pid());
    AwaitCall();
  }
  ASSERT_EQ(kill(process.pid(), SIGKILL), 0);
  EXPECT_EQ(process.Wait(), -SIGKILL);
}

TEST_P(SignalsTest, ADebuggerAttaches) {
  const auto process =
      Start([&](int) { return Connect(socket(AF_INET, SOCK_STREAM, 0), full_.port()); });
  AwaitCall();
  int status = 0;
  ASSERT_EQ(ptrace(PTRACE_ATTACH, process->pid(), nullptr, nullptr), 0) << strerror(errno);
  ASSERT_EQ(waitpid(process->pid(), &status, 0), process->pid());
  EXPECT_TRUE(WIFSTOPPED(status));
  ASSERT_EQ(ptrace(PTRACE_DETACH, process->pid(), nullptr, nullptr), 0);
  AwaitCall();
  ASSERT_EQ(ptrace(PTRACE_SEIZE, process->pid(), nullptr, nullptr), 0) << strerror(errno);
  ASSERT_EQ(ptrace(PTRACE_INTERRUPT, process->pid(), nullptr, nullptr), 0);
  ASSERT_EQ(waitpid(process->pid(), &status, 0), process->pid());
  EXPECT_TRUE(WIFSTOPPED(status));
  ASSERT_EQ(ptrace(PTRACE_DETACH, process->pid(), nullptr, nullptr), 0);
  AwaitCall();
  ASSERT_EQ(kill(process->pid(), SIGTERM), 0);
  EXPECT_EQ(process->Wait(), -SIGTERM);
}

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child
// The kernel gives a process's signal to any thread that does not block it.
TEST_P(SignalsTest, AThreadGetsTheSignalThatTheOthersBlock) {
  EXPECT_EQ(Run([&](int) {
              sigset_t alarm;
              sigemptyset(&alarm);
              sigaddset(&alarm, SIGALRM);
              sigprocmask(SIG_BLOCK, &alarm, nullptr);
              for (int i = 0; i < 6; ++i) {
                std::thread([&, i] {
                  if (i < 3) {
                    pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
                  }
                  Connect(socket(AF_INET, SOCK_STREAM, 0), full_.port());
                }).detach();
              }
              usleep(200'000);
              Alarm(true, EndAtThird);
              return Connect(socket(AF_INET, SOCK_STREAM, 0), full_.port());
            }),
            kHandled);
}
#endif

INSTANTIATE_TEST_SUITE_P(Guards, SignalsTest,
                         testing::Values(Guard{"Bare", false, {}, false},
                                         Guard{"IoUring", true, {true, true}, false},
                                         Guard{"Threads", true, {false, false}, false},
                                         Guard{"IoUringKillable", true, {true, true}, true},
                                         Guard{"ThreadsKillable", true, {false, false}, true}),
                         [](const auto& guard) { return std::string(guard.param.name); });

TEST(DeliveredTest, IsGivenToTheSameCallThatComesNext) {
  const Notification call{.id = 1,
                          .tid = 100,
                          .nr = 42,
                          .arch = 7,
                          .instruction_pointer = 0x1000,
                          .args = {3, 0x2000, 16, 0, 0, 0}};
  Delivered delivered;
  EXPECT_FALSE(delivered.TakeSame(call));
  delivered.Remember(call, {.socket_cookie = 5, .value = 0, .error = EINPROGRESS, .repeats = 1});
  auto again = call;
  again.id = 2;
  const auto result = delivered.TakeSame(again);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->socket_cookie, 5U);
  EXPECT_EQ(result->error, EINPROGRESS);
  EXPECT_EQ(result->repeats, 1);
  EXPECT_FALSE(delivered.TakeSame(again));  // once
}

TEST(DeliveredTest, IsForgottenWithAnyOtherCallOfTheThread) {
  const Notification call{.id = 1, .tid = 100, .nr = 42, .instruction_pointer = 0x1000};
  auto elsewhere = call;
  elsewhere.instruction_pointer = 0x1008;
  auto other_socket = call;
  other_socket.args[0] = 9;
  auto other_call = call;
  other_call.nr = 43;
  for (const Notification& other : {elsewhere, other_socket, other_call}) {
    Delivered delivered;
    delivered.Remember(call, {.socket_cookie = 5});
    EXPECT_FALSE(delivered.TakeSame(other));
    EXPECT_FALSE(delivered.TakeSame(call));
  }
  Delivered delivered;
  delivered.Remember(call, {.socket_cookie = 5});
  auto other_thread = call;
  other_thread.tid = 164;  // the same place
  EXPECT_FALSE(delivered.TakeSame(other_thread));
  EXPECT_TRUE(delivered.TakeSame(call));
}

TEST(LookQueueTest, OwnersTakeTurns) {
  LookQueue queue;
  int many = 0;
  int one = 0;
  for (uint64_t key = 0; key < 100; ++key) {
    queue.Add(&many, key);
  }
  queue.Add(&one, 1000);
  for (int round = 0; round < 30; ++round) {
    std::vector<uint64_t> looked;
    queue.Look(4, [&](uint64_t key) {
      looked.push_back(key);
      return true;
    });
    EXPECT_EQ(looked.size(), 4U);
    EXPECT_EQ(std::ranges::count(looked, 1000U), 1) << round;
    std::ranges::sort(looked);
    EXPECT_EQ(std::ranges::adjacent_find(looked), looked.end());
  }
}

TEST(LookQueueTest, EachKeyComesOnceAndWhatHasGoneIsTakenOut) {
  LookQueue queue;
  int owners[3] = {};
  for (uint64_t key = 0; key < 9; ++key) {
    queue.Add(&owners[key % 3], key);
  }
  std::vector<int> looks(9);
  const auto look = [&](uint64_t key) {
    ++looks[key];
    return key % 2 == 0;
  };
  queue.Look(100, look);
  EXPECT_EQ(looks, std::vector<int>(9, 1));
  EXPECT_EQ(queue.size(), 5U);
  queue.Look(100, look);
  EXPECT_EQ(looks, (std::vector<int>{2, 1, 2, 1, 2, 1, 2, 1, 2}));
  queue.Look(100, [](uint64_t) { return false; });
  EXPECT_EQ(queue.size(), 0U);
  queue.Look(100, look);
  EXPECT_EQ(looks[0], 2);
}

}  // namespace
}  // namespace oakum::agent
