// Programs that try to get past a session. Each way is first shown to be open without a guard.
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <system_error>
#include <thread>

#include "test/unit/agent/absent_memory.h"
#include "test/unit/agent/hostile_testing.h"

namespace oakum::agent {
namespace {

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child
TEST(HostileMemoryTest, ReadersThatWaitHoldUpNoOtherContainer) {
  const Server server(SOCK_STREAM);
  Guarded guarded(AllowOnly(server.port()));
  std::array<int, 2> go = {-1, -1};
  ASSERT_EQ(pipe2(go.data(), O_CLOEXEC), 0);
  const UniqueFd go_read(go[0]);
  UniqueFd go_write(go[1]);
  const auto body = [&](int) {
    go_write.Reset();
    AbsentMemory memory;
    if (!memory.ok()) {
      return 77;
    }
    std::thread([&] {
      connect(socket(AF_INET, SOCK_STREAM, 0), static_cast<const sockaddr*>(memory.get()),
              sizeof(sockaddr_in));
      _exit(1);  // nobody has filled the page
    }).detach();
    char byte = 0;
    _exit(read(go_read.get(), &byte, 1) == 1 ? 42 : 2);
    return 0;
  };
  GuardedProcess holder(guarded.Plan(), body);
  guarded.Attach(holder);
  holder.Go();
  const auto is_held = [&] {
    const auto sessions = guarded.manager().List();
    return sessions.empty() || sessions[0].calls > 0;
  };
  for (int i = 0; i < 500 && !is_held(); ++i) {
    usleep(10'000);
  }
  if (guarded.manager().List().empty()) {
    ASSERT_EQ(holder.Wait(), 77);
    GTEST_SKIP() << "userfaultfd: not permitted";
  }
  ASSERT_TRUE(is_held());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(guarded.Run([&](int) { return ConnectError(server.port()); }), 0);
  }
  ASSERT_EQ(write(go_write.get(), "g", 1), 1);
  EXPECT_EQ(holder.Wait(), 42);
  for (int i = 0; i < 500 && !guarded.manager().List().empty(); ++i) {
    usleep(10'000);
  }
  EXPECT_TRUE(guarded.manager().List().empty());
}
#endif

class WaysTest : public testing::TestWithParam<Options> {};

TEST_P(WaysTest, HangingConnectsDelayNobody) {
  const FullServer full;
  const Server server(SOCK_STREAM);
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "allow"})"), GetParam());
  // What hangs does so for minutes; what does not takes moments, also on a busy machine.
  constexpr std::chrono::seconds kQuick{5};
  // One container of 100 threads that hang; where there are not so many to be had, fewer do.
  std::future<int> hanging = std::async(std::launch::async, [&] {
    return guarded.Run([&](int) {
      try {
        for (int i = 0; i < 100; ++i) {
          std::thread([&] { ConnectError(full.port()); }).detach();
        }
      } catch (const std::system_error&) {
      }
      // Its own quick calls are quick as well.
      usleep(300'000);
      const auto start = std::chrono::steady_clock::now();
      const int error = ConnectError(server.port(), SOCK_NONBLOCK);
      const auto took = std::chrono::steady_clock::now() - start;
      _exit(error == EINPROGRESS && took < kQuick ? 42 : 1);
      return 0;
    });
  });
  usleep(200'000);
  const int status = guarded.Run([&](int) {
    for (int i = 0; i < 50; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const int error = ConnectError(server.port(), SOCK_NONBLOCK);
      if (error != EINPROGRESS || std::chrono::steady_clock::now() - start > kQuick) {
        return 1;
      }
    }
    return 0;
  });
  EXPECT_EQ(status, 0);
  const int hung = hanging.get();
#if defined(__SANITIZE_THREAD__)
  (void)hung;  // tsan ends a forked child that has many threads of its own with a status of its own
#else
  EXPECT_EQ(hung, 42);
#endif
}

TEST_P(WaysTest, CallersThatDieDoNoHarm) {
  const FullServer full;
  const Server server(SOCK_DGRAM);
  Guarded guarded(AllowOnly(server.port(), fmt::format(R"(, "127.0.0.1:{}")", full.port())),
                  GetParam());
  const int status = guarded.Run([&](int) {
    for (int i = 0; i < 200; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        if (i % 2 == 0) {
          ConnectError(full.port());
        }
        for (;;) {
          SendError(server.port());
        }
      }
      usleep(static_cast<useconds_t>(i * 7 % 900));
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
    return SendError(server.port());
  });
  EXPECT_EQ(status, 0);
  for (int i = 0; i < 300 && !guarded.manager().List().empty(); ++i) {
    usleep(10'000);
  }
  EXPECT_TRUE(guarded.manager().List().empty());
}

// What a program and the far side count when it sends kSends datagrams under a signal every 200 us.
constexpr int kSends = 20'000;
// None at all as a rule; slow programs on a busy machine meet the moment more often.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kMostDoubled = kSends / 100;
#else
constexpr int kMostDoubled = kSends / 1000;
#endif
struct SendCounts {
  int sent = 0;
  int failed = 0;
  int received = 0;
};

SendCounts SendUnderSignals(Options options, bool wait_killable) {
  const Server server(SOCK_DGRAM);
  const int room = 8 << 20;
  setsockopt(server.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  Guarded guarded(AllowOnly(server.port()), options);
  std::atomic<bool> done{false};
  std::atomic<int> received{0};
  std::thread counter([&] {
    pollfd ready = {server.fd(), POLLIN, 0};
    while (!done.load() || poll(&ready, 1, 0) > 0) {
      if (poll(&ready, 1, 20) > 0) {
        received += Drain(server);
      }
    }
  });
  std::string output;
  const int status = guarded.Run(
      [&](int output_fd) {
        struct sigaction action = {};
        action.sa_handler = [](int) {};
        action.sa_flags = SA_RESTART;
        sigaction(SIGALRM, &action, nullptr);
        const itimerval timer = {{0, 200}, {0, 200}};
        setitimer(ITIMER_REAL, &timer, nullptr);
        const int fd = socket(AF_INET, SOCK_DGRAM, 0);
        const sockaddr_in address = Loopback(server.port());
        int sent = 0;
        int failed = 0;
        for (int i = 0; i < kSends; ++i) {
          const ssize_t put = sendto(fd, &i, sizeof i, 0,
                                     reinterpret_cast<const sockaddr*>(&address), sizeof address);
          ++(put == sizeof i ? sent : failed);
        }
        const itimerval off = {};
        setitimer(ITIMER_REAL, &off, nullptr);
        const int counts[2] = {sent, failed};
        return write(output_fd, counts, sizeof counts) == sizeof counts ? 0 : 1;
      },
      &output, wait_killable);
  usleep(100'000);
  done.store(true);
  counter.join();
  EXPECT_EQ(status, 0);
  SendCounts result;
  result.received = received.load();
  int counts[2] = {};
  EXPECT_EQ(output.size(), sizeof counts);
  memcpy(counts, output.data(), std::min(output.size(), sizeof counts));
  result.sent = counts[0];
  result.failed = counts[1];
  return result;
}

// Every call is answered, and what an interrupted one had done is not done again. One case is out
// of reach without WAIT_KILLABLE_RECV: a caller that has decided to return for a signal and waits
// for the filter's lock while the answer is being sent. It throws the answer away, although
// SECCOMP_IOCTL_NOTIF_SEND has said that it was delivered (seccomp_do_user_notification()).
TEST_P(WaysTest, SignalsLoseNoCall) {
  const SendCounts counts = SendUnderSignals(GetParam(), false);
  EXPECT_EQ(counts.sent, kSends);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_GE(counts.received, kSends);
  EXPECT_LE(counts.received, kSends + kMostDoubled);
}

TEST_P(WaysTest, SignalsDoubleNoCallWhereTheFilterWaits) {
  const SendCounts counts = SendUnderSignals(GetParam(), true);
  EXPECT_EQ(counts.sent, kSends);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_EQ(counts.received, kSends);
}

// When every copy of the listener is closed, guarded calls fail: they are never carried out.
TEST_P(WaysTest, WithoutAnAgentCallsFail) {
  const FullServer full;
  const Server server(SOCK_STREAM);
  auto guarded = std::make_unique<Guarded>(
      Policies("enforce", R"("outgoing": {"default": "allow"})"), GetParam());
  int pipes[2] = {-1, -1};
  ASSERT_EQ(pipe(pipes), 0);
  const UniqueFd go_read(pipes[0]);
  const UniqueFd go_write(pipes[1]);
  GuardedProcess process(guarded->Plan(), [&](int output_fd) {
    dup2(go_read.get(), 0);
    return Hostile("without-agent", server.port(), full.port())(output_fd);
  });
  guarded->Attach(process);
  process.Go();
  // One call has been answered, and the other one waits.
  pollfd reached = {server.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&reached, 1, 30'000), 1);
  const auto waits = [&] {
    const auto sessions = guarded->manager().List();
    return !sessions.empty() && sessions[0].waiting == 1;
  };
  // The first may wait for a moment too: the other one goes on waiting.
  int in_a_row = 0;
  for (int i = 0; i < 3000 && in_a_row < 10; ++i) {
    usleep(10'000);
    in_a_row = waits() ? in_a_row + 1 : 0;
  }
  EXPECT_EQ(in_a_row, 10);
  guarded.reset();
  ASSERT_TRUE(server.Reached());
  ASSERT_EQ(write(go_write.get(), "g", 1), 1);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_FALSE(server.Reached());
}

INSTANTIATE_TEST_SUITE_P(Ways, WaysTest,
                         testing::Values(Options{true, true}, Options{false, false}),
                         [](const auto& param_info) {
                           return param_info.param.io_uring ? "IoUring" : "Threads";
                         });

}  // namespace
}  // namespace oakum::agent
