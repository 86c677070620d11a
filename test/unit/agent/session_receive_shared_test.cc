// Datagrams of a carried socket for which several wait, and what an agent that is killed leaves.
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <string>

#include "test/unit/agent/receive_testing.h"

namespace {

// What the program has when the agent takes a datagram from its socket. A guarded child has both
// at the same address.
struct Watched {
  std::atomic<pid_t> program{0};
  std::atomic<int> taken{0};
  std::atomic<int> written{0};  // of these, how many the program had already
};
std::atomic<Watched*> watched{nullptr};
constexpr char kText[] = "a datagram";
char room[sizeof kText];

}  // namespace

// In the place of the C library's.
extern "C" ssize_t recvmsg(int fd, msghdr* message, int flags) {
  Watched* const watch = watched.load();
  const pid_t program = watch != nullptr ? watch->program.load() : 0;
  char there[sizeof kText] = {};
  if (program != 0 && (flags & MSG_PEEK) == 0) {
    iovec local = {there, sizeof there};
    iovec remote = {room, sizeof room};
    (void)process_vm_readv(program, &local, 1, &remote, 1, 0);
  }
  const ssize_t got = syscall(SYS_recvmsg, fd, message, flags);
  if (program != 0 && (flags & MSG_PEEK) == 0 && got >= 0) {
    watch->taken.fetch_add(1);
    watch->written.fetch_add(memcmp(there, kText, sizeof kText) == 0 ? 1 : 0);
  }
  return got;
}

namespace oakum::agent {
namespace {

ssize_t Receive(int fd, void* data, size_t size) {
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  return recvfrom(fd, data, size, 0, reinterpret_cast<sockaddr*>(&name), &length);
}

// An agent that is killed once it has taken it has nothing to do for it any more.
TEST(SharedReceiveTest, WhoWaitsHasItBeforeItIsTaken) {
  void* const memory =
      mmap(nullptr, sizeof(Watched), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const watch = new (memory) Watched();
  const Bound own = BindLoopback(AF_INET);
  const Bound from = BindLoopback(AF_INET);
  Receiving guarded;
  guarded.Carry(own.fd.get());
  watched.store(watch);
  std::string output;
  EXPECT_EQ(guarded.Run(
                [&](int) {
                  const pid_t sender = fork();
                  if (sender == 0) {
                    usleep(50'000);
                    (void)sendto(from.fd.get(), kText, sizeof kText, 0,
                                 reinterpret_cast<const sockaddr*>(&own.address), own.length);
                    _exit(0);
                  }
                  watch->program.store(getpid());
                  const ssize_t got = Receive(own.fd.get(), room, sizeof room);
                  watch->program.store(0);
                  (void)waitpid(sender, nullptr, 0);
                  return got == sizeof kText && memcmp(room, kText, sizeof kText) == 0 ? 0 : 1;
                },
                &output),
            0);
  watched.store(nullptr);
  EXPECT_EQ(watch->taken.load(), 1);
  EXPECT_EQ(watch->written.load(), 1);
  munmap(memory, sizeof(Watched));
}

constexpr int kWaiters = 4;
constexpr uint32_t kAtATime = 3;
constexpr uint32_t kTimes = 200;

// 0 when each datagram has come to one of the waiters, a number that says what was wrong else.
int SendToWaiters(const Bound& own, const Bound& from) {
  std::array<int, 2> came = {};
  if (pipe(came.data()) != 0) {
    return 1;
  }
  std::array<pid_t, kWaiters> waiters = {};
  for (pid_t& waiter : waiters) {
    waiter = fork();
    if (waiter == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
      for (uint32_t number = 0;;) {
        if (Receive(own.fd.get(), &number, sizeof number) != ssize_t{sizeof number} ||
            write(came[1], &number, sizeof number) != ssize_t{sizeof number}) {
          _exit(1);
        }
      }
    }
  }
  const auto next = [&](uint32_t& number, int patience) {
    pollfd ready = {came[0], POLLIN, 0};
    return poll(&ready, 1, patience) == 1 &&
           read(came[0], &number, sizeof number) == ssize_t{sizeof number};
  };
  int wrong = 0;
  std::array<bool, kAtATime * kTimes> seen = {};
  for (uint32_t time = 0; time < kTimes && wrong == 0; ++time) {
    for (uint32_t i = 0; i < kAtATime; ++i) {
      const uint32_t number = time * kAtATime + i;
      (void)sendto(from.fd.get(), &number, sizeof number, 0,
                   reinterpret_cast<const sockaddr*>(&own.address), own.length);
    }
    for (uint32_t i = 0; i < kAtATime && wrong == 0; ++i) {
      uint32_t number = 0;
      if (!next(number, 20'000)) {
        wrong = 2;  // lost
      } else if (number >= seen.size() || std::exchange(seen[number], true)) {
        wrong = 3;  // come twice
      }
    }
  }
  uint32_t number = 0;
  if (wrong == 0 && next(number, 100)) {
    wrong = 3;
  }
  for (const pid_t waiter : waiters) {
    kill(waiter, SIGKILL);
    (void)waitpid(waiter, nullptr, 0);
  }
  return wrong;
}

TEST(SharedReceiveTest, EachComesToOneOfThoseWhoWait) {
  const Bound own = BindLoopback(AF_INET);
  const Bound from = BindLoopback(AF_INET);
  Receiving guarded;
  guarded.Carry(own.fd.get());
  std::string output;
  EXPECT_EQ(guarded.Run([&](int) { return SendToWaiters(own, from); }, &output), 0);
}

}  // namespace
}  // namespace oakum::agent
