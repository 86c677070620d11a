// Connections that a relay carries: sockets in non-blocking mode, networks without a way out.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <csignal>
#include <cstdio>
#include <future>
#include <vector>

#include "test/unit/agent/proxy/socks_server.h"
#include "test/unit/agent/relay_testing.h"

namespace oakum::agent {
namespace {

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
                    // The first may come before the call.
                    const itimerval soon = {{0, 50'000}, {0, 50'000}};
                    setitimer(ITIMER_REAL, &soon, nullptr);
                    CHECK_THAT(Connect(other, Elsewhere(81)) == EINTR);
                    const itimerval no_more = {};
                    setitimer(ITIMER_REAL, &no_more, nullptr);
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

// Where the socket is being connected to; 0 when it is not there. Found by its inode (the tenth
// column of the table, proc_pid_net(5)), since others in the network may have its port.
unsigned PortConnectedTo(int fd) {
  struct stat own = {};
  FILE* table = fopen("/proc/thread-self/net/tcp", "re");
  unsigned found = 0;
  char line[512];
  while (table != nullptr && fstat(fd, &own) == 0 && found == 0 &&
         fgets(line, sizeof line, table) != nullptr) {
    unsigned remote = 0;
    unsigned long inode = 0;
    if (sscanf(line, " %*d: %*x:%*x %*x:%x 02 %*x:%*x %*x:%*x %*x %*u %*u %lu", &remote, &inode) ==
            2 &&
        inode == own.st_ino) {
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
                    unsigned port = 0;
                    // A table that others change meanwhile may leave an entry out.
                    for (int tries = 0; tries < 100 && port == 0; ++tries) {
                      port = PortConnectedTo(fd);
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
