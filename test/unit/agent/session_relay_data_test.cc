// What goes through a relay: bytes, their ends, resets, and many connections at once.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <future>
#include <vector>

#include "test/unit/agent/descriptor_limit.h"
#include "test/unit/agent/proxy/socks_server.h"
#include "test/unit/agent/relay_testing.h"

namespace oakum::agent {
namespace {

// Relayed for certain: a socket in non-blocking mode, then made to wait.
int Relayed() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (Connect(fd, Elsewhere()) != EINPROGRESS || PollFor(fd, POLLOUT, kPatience) != POLLOUT ||
      TakeError(fd) != 0) {
    return -1;
  }
  const timeval limit = {kPatience / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  fcntl(fd, F_SETFL, 0);
  return fd;
}

constexpr size_t kBig = size_t{64} << 20;

// Bytes that tell where they are in a stream.
void Pattern(char* out, size_t size, size_t offset) {
  for (size_t i = 0; i < size; ++i) {
    out[i] = static_cast<char>((offset + i) * 2654435761U >> 13);
  }
}

// Reads until the end; the number of bytes if all are as they should be, else -1.
ssize_t ReadPattern(int fd, size_t slow_first = 0) {
  std::vector<char> got(1 << 20);
  std::vector<char> want(1 << 20);
  size_t total = 0;
  for (;;) {
    if (total < slow_first) {
      usleep(1000);
    }
    const ssize_t n = recv(fd, got.data(), total < slow_first ? 4096 : got.size(), 0);
    if (n <= 0) {
      return n == 0 ? static_cast<ssize_t>(total) : -1;
    }
    Pattern(want.data(), static_cast<size_t>(n), total);
    if (memcmp(got.data(), want.data(), static_cast<size_t>(n)) != 0) {
      return -1;
    }
    total += static_cast<size_t>(n);
  }
}

bool WritePattern(int fd, size_t size) {
  std::vector<char> data(1 << 20);
  for (size_t done = 0; done < size;) {
    const size_t piece = std::min(data.size(), size - done);
    Pattern(data.data(), piece, done);
    for (size_t at = 0; at < piece;) {
      const ssize_t n = send(fd, data.data() + at, piece - at, MSG_NOSIGNAL);
      if (n <= 0) {
        return false;
      }
      at += static_cast<size_t>(n);
    }
    done += piece;
  }
  return true;
}

TEST_P(RelayTest, BytesArriveInBothDirectionsAndEndsArePassedOn) {
  std::promise<ssize_t> uploaded;
  SocksServer proxy([&](ProxySide& side) {
    std::thread down([&] {
      EXPECT_TRUE(WritePattern(side.fd(), kBig));
      side.ShutdownWrite();
    });
    uploaded.set_value(ReadPattern(side.fd(), 200'000));
    down.join();
  });
  Guarded guarded(Redirecting(proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    const int fd = Relayed();
                    CHECK_THAT(fd >= 0);
                    // A process: a sanitizer knows no threads of a forked one.
                    const pid_t up = fork();
                    if (up == 0) {
                      _exit(WritePattern(fd, kBig) && shutdown(fd, SHUT_WR) == 0 ? 0 : 1);
                    }
                    const ssize_t got = ReadPattern(fd, 200'000);
                    int status = -1;
                    CHECK_THAT(waitpid(up, &status, 0) == up && status == 0);
                    CHECK_THAT(got == static_cast<ssize_t>(kBig));
                    return 0;
                  }),
            0);
  EXPECT_EQ(uploaded.get_future().get(), static_cast<ssize_t>(kBig));
}

// A half-closed connection goes on the other way.
TEST_P(RelayTest, AnswersAfterTheEndOfTheRequest) {
  SocksServer proxy([](ProxySide& side) {
    side.AwaitEnd();
    side.Write("answer");
  });
  Guarded guarded(Redirecting(proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    const int fd = Relayed();
                    CHECK_THAT(fd >= 0 && send(fd, "ask", 3, 0) == 3);
                    CHECK_THAT(shutdown(fd, SHUT_WR) == 0);
                    char buffer[16];
                    CHECK_THAT(recv(fd, buffer, 6, MSG_WAITALL) == 6);
                    CHECK_THAT(recv(fd, buffer, 6, 0) == 0);
                    return 0;
                  }),
            0);
}

TEST_P(RelayTest, ResetsArePassedOnBothWays) {
  std::promise<int> far_error;
  SocksServer proxy([&, first = true](ProxySide& side) mutable {
    if (first) {
      first = false;
      (void)side.Read(3);
      return side.Abort();
    }
    char byte = 0;
    far_error.set_value(recv(side.fd(), &byte, 1, 0) < 0 ? errno : 0);
  });
  Guarded guarded(Redirecting(proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    const int fd = Relayed();
                    CHECK_THAT(fd >= 0 && send(fd, "ask", 3, 0) == 3);
                    char byte = 0;
                    CHECK_THAT(recv(fd, &byte, 1, 0) == -1 && errno == ECONNRESET);
                    const int other = Relayed();
                    CHECK_THAT(other >= 0);
                    const linger reset = {1, 0};
                    setsockopt(other, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
                    close(other);
                    return 0;
                  }),
            0);
  EXPECT_EQ(far_error.get_future().get(), ECONNRESET);
}

TEST(RelayLimitTest, WhoKeepsConnectionsLeavesOthersTheirs) {
  constexpr size_t kDescriptors = 1024;
  constexpr size_t kShare = kDescriptors / 8 / 2;
  const DescriptorLimit limit(kDescriptors);
  SocksServer proxy(Echo);
  Guarded guarded(Redirecting(proxy.port()));
  int full[2];
  int go[2];
  ASSERT_EQ(pipe2(full, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
  GuardedProcess greedy(guarded.Plan(), [&](int) {
    std::vector<int> fds;
    int error = EINPROGRESS;
    while (error == EINPROGRESS) {
      fds.push_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      error = Connect(fds.back(), Elsewhere());
    }
    CHECK_THAT(write(full[1], "f", 1) == 1);
    CHECK_THAT(error == ENOBUFS && fds.size() == kShare + 1);
    char byte = 0;
    CHECK_THAT(read(go[0], &byte, 1) == 1);
    for (const int fd : fds) {
      close(fd);
    }
    // As soon as the agent has seen that they are gone.
    for (int tries = 0; tries < kPatience && error != EINPROGRESS; ++tries) {
      usleep(1000);
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      error = Connect(fd, Elsewhere());
      close(fd);
    }
    CHECK_THAT(error == EINPROGRESS);
    return 0;
  });
  guarded.Attach(greedy, "greedy");
  greedy.Go();
  EXPECT_EQ(PollFor(full[0], POLLIN, kPatience), POLLIN);
  GuardedProcess other(guarded.Plan(), [&](int) {
    CHECK_THAT(Relayed() >= 0);
    return 0;
  });
  guarded.Attach(other, "other");
  other.Go();
  EXPECT_EQ(other.Wait(), 0);
  EXPECT_EQ(write(go[1], "g", 1), 1);
  EXPECT_EQ(greedy.Wait(), 0);
  EXPECT_TRUE(std::ranges::any_of(guarded.sink().events(), [](const Event& event) {
    return event.proxy_failure && event.errno_value == ENOBUFS;
  }));
  for (const int fd : {full[0], full[1], go[0], go[1]}) {
    close(fd);
  }
}

TEST_P(RelayTest, AThousandAtOnce) {
  constexpr size_t kCount = 1000;
  SocksServer proxy(Echo);
  Guarded guarded(Redirecting(proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    rlimit limit = {};
                    CHECK_THAT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
                    limit.rlim_cur = limit.rlim_max;
                    CHECK_THAT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
                    std::vector<int> fds;
                    for (size_t i = 0; i < kCount; ++i) {
                      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                      CHECK_THAT(fd >= 0 && Connect(fd, Elsewhere()) == EINPROGRESS);
                      fds.push_back(fd);
                    }
                    for (const int fd : fds) {
                      CHECK_THAT(PollFor(fd, POLLOUT, kPatience) == POLLOUT && TakeError(fd) == 0);
                      CHECK_THAT(send(fd, &fd, sizeof fd, 0) == sizeof fd);
                    }
                    for (const int fd : fds) {
                      int got = -1;
                      CHECK_THAT(PollFor(fd, POLLIN, kPatience) == POLLIN);
                      CHECK_THAT(recv(fd, &got, sizeof got, 0) == sizeof got && got == fd);
                      close(fd);
                    }
                    return 0;
                  }),
            0);
  EXPECT_EQ(proxy.targets().size(), kCount);
}

}  // namespace
}  // namespace oakum::agent
