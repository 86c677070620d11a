// Sessions at their end, and callers in odd states.
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

std::string DenyAll() { return Policies("enforce", R"("outgoing": {"default": "deny"})"); }

size_t CountEntries(const char* directory) {
  DIR* entries = opendir(directory);
  size_t count = 0;
  while (entries != nullptr && readdir(entries) != nullptr) {
    ++count;
  }
  closedir(entries);
  return count;
}
size_t Threads() { return CountEntries("/proc/self/task"); }
size_t Descriptors() { return CountEntries("/proc/self/fd"); }

double ProcessorSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Within 20 seconds.
bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) {
      return true;
    }
    usleep(10'000);
  }
  return false;
}

// RECV answers ENOENT for ever once the last task of a filter has gone.
TEST(EscapeSessionTest, AHundredEndedSessionsCostNothing) {
  constexpr int kSessions = 100;
  constexpr size_t kMadeOnce = 8;  // descriptors that the first session makes for all
  const Server server(SOCK_STREAM);
  Guarded guarded(DenyAll());
  const size_t threads = Threads();
  const size_t descriptors = Descriptors();
  {
    std::vector<std::unique_ptr<GuardedProcess>> processes;
    processes.reserve(kSessions);
    // All are forked before there is a session thread that could hold a lock of the allocator.
    for (int i = 0; i < kSessions; ++i) {
      processes.push_back(std::make_unique<GuardedProcess>(
          guarded.Plan(), [&](int) { return ConnectError(server.port()) == EACCES ? 0 : 1; }));
    }
    for (const auto& process : processes) {
      guarded.Attach(*process);
    }
    EXPECT_EQ(guarded.manager().List().size(), size_t{kSessions});
    for (const auto& process : processes) {
      process->Go();
      EXPECT_EQ(process->Wait(), 0);
    }
  }
  EXPECT_TRUE(Eventually([&] { return guarded.manager().List().empty(); }));
  EXPECT_TRUE(Eventually([&] { return Threads() <= threads; })) << Threads();
  EXPECT_TRUE(Eventually([&] { return Descriptors() <= descriptors + kMadeOnce; }))
      << Descriptors();
  const double before = ProcessorSeconds();
  usleep(500'000);
  EXPECT_LT(ProcessorSeconds() - before, 0.1);
  // What they did is still counted.
  const SessionTotals totals = guarded.manager().Totals();
  EXPECT_EQ(totals.sessions, uint64_t{kSessions});
  EXPECT_EQ(totals.calls, uint64_t{kSessions});
  EXPECT_EQ(totals.denied, uint64_t{kSessions});
  EXPECT_EQ(totals.leaks, uint64_t{kSessions});
}

// A process that has ended and whose parent does not ask for it keeps no session.
TEST(EscapeSessionTest, AZombieKeepsNoSession) {
  Guarded guarded(DenyAll());
  GuardedProcess process(guarded.Plan(), [](int) { return 0; });
  guarded.Attach(process);
  process.Go();
  siginfo_t ended = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(Eventually([&] { return guarded.manager().List().empty(); }));
  EXPECT_EQ(process.Wait(), 0);
}

// The session lives as long as any task does, however deep: the first process has ended.
TEST(EscapeSessionTest, AnOrphanIsStillGuarded) {
  const Server server(SOCK_STREAM);
  Guarded guarded(DenyAll());
  int pipes[2] = {-1, -1};
  ASSERT_EQ(pipe(pipes), 0);
  const UniqueFd result_read(pipes[0]);
  UniqueFd result_write(pipes[1]);
  GuardedProcess process(guarded.Plan(), [&](int output_fd) {
    const pid_t parent = getpid();
    if (fork() == 0) {
      close(output_fd);
      while (getppid() == parent) {
        usleep(1000);
      }
      const int error = ConnectError(server.port());
      (void)!write(result_write.get(), &error, sizeof error);
      _exit(0);
    }
    return 0;
  });
  guarded.Attach(process);
  process.Go();
  EXPECT_EQ(process.Wait(), 0);
  result_write.Reset();
  int error = -1;
  EXPECT_EQ(read(result_read.get(), &error, sizeof error), ssize_t{sizeof error});
  EXPECT_EQ(error, EACCES);
  EXPECT_FALSE(server.Reached());
  EXPECT_TRUE(Eventually([&] { return guarded.manager().List().empty(); }));
}

// Arguments that make no sense get the kernel's answer, are counted as calls, and are neither
// allowed nor denied.
TEST(EscapeSessionTest, WeirdArgumentsLeaveTheCountersRight) {
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "deny"},
      "incoming": {"default": "deny"})"));
  constexpr uint64_t kCalls = 8;
  const int status = guarded.Run([](int) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    int failures = 0;
    const auto expect = [&](long result, int error) {
      failures += result == -1 && errno == error ? 0 : 1;
    };
    expect(syscall(SYS_connect, -1, nullptr, 16), EBADF);
    expect(syscall(SYS_connect, fd, 16, 16), EFAULT);
    expect(syscall(SYS_connect, fd, nullptr, -1), EINVAL);
    expect(syscall(SYS_bind, fd, 16, 16), EFAULT);
    expect(syscall(SYS_bind, 1 << 30, nullptr, 0), EBADF);
    expect(syscall(SYS_listen, 0x7fffffff, -1), EBADF);
    expect(syscall(SYS_accept4, fd, nullptr, nullptr, 0x40000000), EINVAL);
    expect(syscall(SYS_accept, fd, nullptr, nullptr), EINVAL);
    return failures;
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(Eventually([&] { return guarded.manager().List().empty(); }));
  const SessionTotals totals = guarded.manager().Totals();
  EXPECT_EQ(totals.calls, kCalls);
  EXPECT_EQ(totals.allowed + totals.denied + totals.leaks, 0U);
  EXPECT_TRUE(guarded.sink().events().empty());
}

}  // namespace
}  // namespace oakum::agent
