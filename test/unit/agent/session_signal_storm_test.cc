// Programs that get signals as fast as another process can send them, as Go's threads do from their
// scheduler: no call is lost, none is made twice.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "test/unit/agent/hostile_testing.h"

namespace oakum::agent {
namespace {

// OAKUM_SIGNAL_CALLS: how many calls of each kind.
int Calls() {
  const char* const text = std::getenv("OAKUM_SIGNAL_CALLS");
  const int calls = text != nullptr ? atoi(text) : 0;
#if defined(__SANITIZE_THREAD__)
  constexpr int kByDefault = 2'000;
#else
  constexpr int kByDefault = 10'000;
#endif
  return calls > 0 ? calls : kByDefault;
}

// A datagram that was sent may go out again where a signal comes in the instant in which its answer
// is sent (docs/threat-model.md). Under a signal every microsecond some do on a busy machine.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kOneDoubledOf = 50;
#else
constexpr int kOneDoubledOf = 200;
#endif

// Sends SIGURG to `pid` without a pause.
class Storm {
 public:
  explicit Storm(pid_t pid)
      : thread_([this, pid] {
          while (!done_.load(std::memory_order_relaxed)) {
            kill(pid, SIGURG);
#if defined(__SANITIZE_THREAD__)
            usleep(2000);  // an answer takes so long there that none would ever come in time
#endif
            for (int i = 0; i < 20'000 && !done_.load(std::memory_order_relaxed); ++i) {
            }
          }
        }) {
  }
  ~Storm() {
    done_.store(true);
    thread_.join();
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

std::atomic<int> handled{0};
void CountSignal(int) { handled.fetch_add(1, std::memory_order_relaxed); }

void HandleUrgent() {
  struct sigaction action = {};
  action.sa_handler = CountSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGURG, &action, nullptr);
}

struct Way {
  Options options;
  bool wait_killable;
};

// What the program says at its end.
struct Report {
  int done = 0;
  int failed = 0;
  int last_error = 0;
  int signals = 0;
};

class SignalStormTest : public testing::TestWithParam<Way> {
 protected:
  template <typename Body>
  static Report Run(Guarded& guarded, Body body) {
    GuardedProcess process(
        guarded.Plan(),
        [&](int output_fd) {
          HandleUrgent();
          Report report = body();
          report.signals = handled.load();
          return write(output_fd, &report, sizeof report) == sizeof report ? 0 : 1;
        },
        GetParam().wait_killable);
    guarded.Attach(process);
    std::string output;
    {
      process.Go();
      usleep(20'000);
      const Storm storm(process.pid());
      EXPECT_EQ(process.Wait(&output), 0);
    }
    Report report;
    EXPECT_EQ(output.size(), sizeof report);
    memcpy(&report, output.data(), std::min(output.size(), sizeof report));
    return report;
  }
};

TEST_P(SignalStormTest, EachDatagramGoesOutOnce) {
  const int calls = Calls();
  const Server server(SOCK_DGRAM);
  const int room = 8 << 20;
  setsockopt(server.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  Guarded guarded(AllowOnly(server.port()), GetParam().options);
  std::atomic<bool> done{false};
  std::vector<uint8_t> seen(static_cast<size_t>(calls));
  std::thread counter([&] {
    pollfd ready = {server.fd(), POLLIN, 0};
    while (!done.load() || poll(&ready, 1, 0) > 0) {
      int number = -1;
      if (poll(&ready, 1, 20) > 0 &&
          recv(server.fd(), &number, sizeof number, MSG_DONTWAIT) == sizeof number && number >= 0 &&
          number < calls) {
        ++seen[static_cast<size_t>(number)];
      }
    }
  });
  const Report report = Run(guarded, [&] {
    Report counts;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in address = Loopback(server.port());
    for (int i = 0; i < calls; ++i) {
      const ssize_t put =
          sendto(fd, &i, sizeof i, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address);
      ++(put == sizeof i ? counts.done : counts.failed);
      counts.last_error = put == sizeof i ? counts.last_error : errno;
    }
    return counts;
  });
  usleep(100'000);
  done.store(true);
  counter.join();
  EXPECT_EQ(report.done, calls) << strerror(report.last_error);
  const auto lost = std::ranges::count(seen, 0);
  const auto doubled = std::ranges::count_if(seen, [](int times) { return times > 1; });
  printf("signals handled %d, lost %ld, doubled %ld of %d\n", report.signals, lost, doubled, calls);
  EXPECT_EQ(lost, 0);
  EXPECT_LE(doubled, GetParam().wait_killable ? 0 : std::max(4, calls / kOneDoubledOf));
  EXPECT_GT(report.signals, 0);
}

TEST_P(SignalStormTest, EachConnectionIsMadeOnce) {
  const int calls = Calls();
  const Server server(SOCK_STREAM);
  EXPECT_EQ(listen(server.fd(), 4096), 0);
  Guarded guarded(AllowOnly(server.port()), GetParam().options);
  std::atomic<bool> done{false};
  int accepted = 0;
  std::thread counter([&] {
    pollfd ready = {server.fd(), POLLIN, 0};
    while (!done.load() || poll(&ready, 1, 0) > 0) {
      if (poll(&ready, 1, 20) > 0) {
        const UniqueFd peer(accept4(server.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        accepted += peer.valid() ? 1 : 0;
      }
    }
  });
  const Report report = Run(guarded, [&] {
    Report counts;
    const sockaddr_in address = Loopback(server.port());
    const linger now = {1, 0};
    for (int i = 0; i < calls; ++i) {
      const int fd = socket(AF_INET, SOCK_STREAM, 0);
      const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
      ++(result == 0 ? counts.done : counts.failed);
      counts.last_error = result == 0 ? counts.last_error : errno;
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
      close(fd);
    }
    return counts;
  });
  usleep(100'000);
  done.store(true);
  counter.join();
  printf("signals handled %d, accepted %d, failed %d of %d: %s\n", report.signals, accepted,
         report.failed, calls, strerror(report.last_error));
  EXPECT_EQ(report.done, calls) << strerror(report.last_error);
  EXPECT_EQ(accepted, calls);
  EXPECT_GT(report.signals, 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, SignalStormTest,
                         testing::Values(Way{{true, true}, false}, Way{{false, false}, false},
                                         Way{{true, true}, true}, Way{{false, false}, true}),
                         [](const auto& way) {
                           return std::string(way.param.options.io_uring ? "IoUring" : "Threads") +
                                  (way.param.wait_killable ? "Killable" : "");
                         });

}  // namespace
}  // namespace oakum::agent
