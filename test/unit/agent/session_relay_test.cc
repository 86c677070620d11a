// Connections that a relay carries: sockets in non-blocking mode, networks without a way out.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <future>
#include <vector>

#include "test/unit/agent/guarded_session.h"
#include "test/unit/agent/proxy/socks_server.h"

namespace oakum::agent {
namespace {

constexpr int kPatience = 20'000;  // milliseconds; only what is wrong takes as long

std::string Redirecting(uint16_t port, std::string_view scheme = "socks5h",
                        std::string_view more = "") {
  return fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "{}://127.0.0.1:{}"}}}},
           "policies": {{"p": {{"mode": "enforce", "log": "all", "proxy": "x",
                               "outgoing": {{"default": "redirect"}}{}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      scheme, port, more);
}

sockaddr_in Elsewhere(uint16_t port = 80) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(0xc0000207);  // 192.0.2.7 (RFC 5737)
  return address;
}

int Connect(int fd, const sockaddr_in& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

int PollFor(int fd, short events, int timeout) {
  pollfd wait = {fd, events, 0};
  return poll(&wait, 1, timeout) == 1 ? wait.revents : 0;
}

int TakeError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

// What a child says is wrong, as its exit code: the line.
#define CHECK_THAT(condition) \
  do {                        \
    if (!(condition)) {       \
      return __LINE__ % 256;  \
    }                         \
  } while (false)

// Out of the machine's network: the only way is the relay's. Before the filter would be as good.
bool EnterEmptyNetwork() {
  if (unshare(CLONE_NEWNET) != 0) {
    return false;
  }
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct {
    char name[16];
    short flags;
    char rest[22];
  } request = {"lo", 1 /* IFF_UP */, {}};
  const bool up = ioctl(fd, 0x8914 /* SIOCSIFFLAGS */, &request) == 0;
  close(fd);
  return up;
}

// The child's exit code; when it is not 0, with what the agent has reported.
int RunIn(Guarded& guarded, const std::function<int(int)>& body) {
  const int code = guarded.Run(body);
  if (code != 0) {
    for (const Event& event : guarded.sink().events()) {
      ADD_FAILURE() << event.syscall << ": " << event.rule << ": " << event.detail << ": errno "
                    << event.errno_value;
    }
  }
  return code;
}

class RelayTest : public testing::TestWithParam<bool> {
 protected:
  // In the agent's own network namespace, or in one without any network.
  static bool Enter() { return !GetParam() || EnterEmptyNetwork(); }
};
INSTANTIATE_TEST_SUITE_P(Networks, RelayTest, testing::Values(false, true),
                         [](const auto& param) { return param.param ? "None" : "Own"; });

TEST_P(RelayTest, NonBlockingSocketIsNotWritableBeforeTheProxyHasSaidYes) {
  std::promise<void> go;
  auto ready = go.get_future().share();
  SocksServer proxy(
      [&](const std::string&) {
        ready.wait();
        return 0;
      },
      Echo);
  Guarded guarded(Redirecting(proxy.port()));
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  std::thread watcher([&] {
    char byte = 0;
    EXPECT_EQ(read(pipe_fds[0], &byte, 1), 1);
    go.set_value();
  });
  const int code = RunIn(guarded, [&](int) {
    CHECK_THAT(Enter());
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_THAT(Connect(fd, Elsewhere()) == EINPROGRESS);
    CHECK_THAT(Connect(fd, Elsewhere()) == EALREADY);
    CHECK_THAT(PollFor(fd, POLLOUT | POLLIN, 200) == 0);
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    CHECK_THAT(getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == -1 &&
               errno == ENOTCONN);
    CHECK_THAT(write(pipe_fds[1], "g", 1) == 1);
    CHECK_THAT(PollFor(fd, POLLOUT, kPatience) == POLLOUT);
    CHECK_THAT(TakeError(fd) == 0);
    CHECK_THAT(Connect(fd, Elsewhere()) == 0 || errno == EISCONN);
    CHECK_THAT(Connect(fd, Elsewhere()) == EISCONN);
    CHECK_THAT(getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0);
    CHECK_THAT(peer.sin_addr.s_addr == Elsewhere().sin_addr.s_addr && peer.sin_port == htons(80));
    CHECK_THAT(send(fd, "hello", 5, 0) == 5);
    CHECK_THAT(PollFor(fd, POLLIN, kPatience) == POLLIN);
    char buffer[16];
    CHECK_THAT(recv(fd, buffer, sizeof buffer, 0) == 5 && memcmp(buffer, "hello", 5) == 0);
    return 0;
  });
  EXPECT_EQ(code, 0);
  if (code != 0) {
    (void)!write(pipe_fds[1], "g", 1);
  }
  watcher.join();
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  EXPECT_EQ(proxy.targets(), std::vector<std::string>{"192.0.2.7:80"});
}

TEST_P(RelayTest, BlockingSocketConnects) {
  SocksServer proxy(Echo);
  Guarded guarded(Redirecting(proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    const int fd = socket(AF_INET, SOCK_STREAM, 0);
                    CHECK_THAT(Connect(fd, Elsewhere()) == 0);
                    CHECK_THAT(send(fd, "hello", 5, 0) == 5);
                    char buffer[16];
                    CHECK_THAT(recv(fd, buffer, 5, MSG_WAITALL) == 5);
                    CHECK_THAT(shutdown(fd, SHUT_WR) == 0);
                    CHECK_THAT(recv(fd, buffer, sizeof buffer, 0) == 0);
                    return 0;
                  }),
            0);
  EXPECT_EQ(proxy.targets(), std::vector<std::string>{"192.0.2.7:80"});
}

TEST_P(RelayTest, ProxysRefusalIsTheErrorOfTheConnect) {
  // RFC 1928 section 6.
  const std::pair<int, int> kCases[] = {
      {5, ECONNREFUSED}, {3, ENETUNREACH}, {4, EHOSTUNREACH}, {2, EACCES}};
  for (const auto& [reply, error] : kCases) {
    SocksServer proxy([&, code = reply](const std::string&) { return code; }, Echo);
    Guarded guarded(Redirecting(proxy.port()));
    EXPECT_EQ(RunIn(guarded,
                    [&, want = error](int) {
                      CHECK_THAT(Enter());
                      const int blocking = socket(AF_INET, SOCK_STREAM, 0);
                      CHECK_THAT(Connect(blocking, Elsewhere()) == want);
                      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                      CHECK_THAT(Connect(fd, Elsewhere()) == EINPROGRESS);
                      CHECK_THAT((PollFor(fd, POLLOUT, kPatience) & POLLERR) != 0);
                      const int told = TakeError(fd);
                      // ICMP has no word for "not allowed".
                      CHECK_THAT(told == (want == EACCES ? EHOSTUNREACH : want));
                      return 0;
                    }),
              0)
        << reply;
    bool reported = false;
    for (const Event& event : guarded.sink().events()) {
      reported = reported || (event.proxy_failure && event.errno_value == error);
    }
    EXPECT_TRUE(reported) << reply;
  }
}

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

// What a caller is told that waits while the proxy takes its time: signals, a time limit, a second
// attempt, and giving up.
TEST_P(RelayTest, WaitingIsAsWithoutAProxy) {
  std::promise<void> go;
  const auto ready = go.get_future().share();
  SocksServer proxy(
      [&](const std::string& target) {
        if (target.ends_with(":81")) {
          ready.wait();
        }
        return 0;
      },
      Echo);
  // With secrets in the URL the container's own socket is not used: relayed although it waits.
  Guarded guarded(fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "socks5h://u:p@127.0.0.1:{}", "from": "host"}}}},
           "policies": {{"p": {{"mode": "enforce", "proxy": "x",
                               "outgoing": {{"default": "redirect"}}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    const int fd = socket(AF_INET, SOCK_STREAM, 0);
                    const timeval limit = {0, 100'000};
                    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
                    CHECK_THAT(Connect(fd, Elsewhere(81)) == EINPROGRESS);
                    // Waits on, for the same connection.
                    CHECK_THAT(Connect(fd, Elsewhere(81)) == EALREADY || errno == EINPROGRESS);
                    sockaddr_in nowhere = {};
                    nowhere.sin_family = AF_UNSPEC;
                    CHECK_THAT(Connect(fd, nowhere) == 0);
                    const timeval never = {0, 0};
                    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof never);
                    CHECK_THAT(Connect(fd, Elsewhere(80)) == 0);
                    sockaddr_in peer = {};
                    socklen_t length = sizeof peer;
                    CHECK_THAT(getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0);
                    CHECK_THAT(peer.sin_port == htons(80));

                    const int other = socket(AF_INET, SOCK_STREAM, 0);
                    struct sigaction action = {};
                    action.sa_handler = [](int) {};
                    sigaction(SIGALRM, &action, nullptr);
                    itimerval soon = {{0, 0}, {0, 50'000}};
                    setitimer(ITIMER_REAL, &soon, nullptr);
                    CHECK_THAT(Connect(other, Elsewhere(81)) == EINTR);
                    CHECK_THAT(PollFor(other, POLLOUT, 50) == 0);
                    return 0;
                  }),
            0);
  go.set_value();
}

int Connect6(int fd, const char* address, uint16_t port) {
  sockaddr_in6 to = {};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  inet_pton(AF_INET6, address, &to.sin6_addr);
  return connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
}

std::string Peer6(int fd) {
  sockaddr_in6 peer = {};
  socklen_t length = sizeof peer;
  char text[INET6_ADDRSTRLEN] = {};
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0 || length != sizeof peer ||
      peer.sin6_family != AF_INET6) {
    return "";
  }
  return inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text);
}

TEST_P(RelayTest, Ipv6AndMappedIpv4) {
  SocksServer proxy(Echo);
  Guarded guarded(Redirecting(proxy.port()));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    for (const char* address : {"2001:db8::7", "::ffff:192.0.2.7"}) {
                      const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
                      CHECK_THAT(Connect6(fd, address, 80) == EINPROGRESS);
                      CHECK_THAT(PollFor(fd, POLLOUT, kPatience) == POLLOUT && TakeError(fd) == 0);
                      CHECK_THAT(Peer6(fd) == address);
                      CHECK_THAT(send(fd, "hello", 5, 0) == 5 &&
                                 PollFor(fd, POLLIN, kPatience) == POLLIN);
                    }
                    // Of another family, and of all hosts: as the kernel says it.
                    CHECK_THAT(Connect6(socket(AF_INET, SOCK_STREAM, 0), "2001:db8::7", 80) ==
                               EAFNOSUPPORT);
                    sockaddr_in all = Elsewhere();
                    all.sin_addr.s_addr = htonl(INADDR_BROADCAST);
                    CHECK_THAT(Connect(socket(AF_INET, SOCK_STREAM, 0), all) == ENETUNREACH);
                    return 0;
                  }),
            0);
  EXPECT_EQ(proxy.targets(), (std::vector<std::string>{"2001:db8::7:80", "192.0.2.7:80"}));
}

// Where the socket with that port is being connected to (proc_pid_net(5): remote address,
// SYN_SENT); 0 when it is not there.
unsigned PortConnectedTo(unsigned own_port) {
  FILE* table = fopen("/proc/thread-self/net/tcp", "re");
  unsigned found = 0;
  char line[512];
  while (table != nullptr && found == 0 && fgets(line, sizeof line, table) != nullptr) {
    unsigned own = 0;
    unsigned remote = 0;
    if (sscanf(line, " %*d: %*x:%x %*x:%x 02", &own, &remote) == 2 && own == own_port) {
      found = remote;
    }
  }
  if (table != nullptr) {
    fclose(table);
  }
  return found;
}

// Nobody comes to the agent's end of a connection but the socket that it is for.
TEST_P(RelayTest, TheAgentsPortsAreNotForOthers) {
  std::promise<void> go;
  const auto ready = go.get_future().share();
  SocksServer proxy(
      [&](const std::string&) {
        ready.wait();
        return 0;
      },
      Echo);
  Guarded guarded(Redirecting(proxy.port(), "socks5h"));
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    CHECK_THAT(Enter());
                    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
                    CHECK_THAT(Connect(fd, Elsewhere()) == EINPROGRESS);
                    sockaddr_in address = {};
                    socklen_t length = sizeof address;
                    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
                    unsigned port = 0;
                    // A table that others change meanwhile may leave an entry out.
                    for (int tries = 0; tries < 100 && port == 0; ++tries) {
                      port = PortConnectedTo(ntohs(address.sin_port));
                    }
                    CHECK_THAT(port != 0);
                    CHECK_THAT(ConnectError(static_cast<uint16_t>(port)) == ECONNREFUSED);
                    return 0;
                  }),
            0);
  go.set_value();
}

}  // namespace
}  // namespace oakum::agent
