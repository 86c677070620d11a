// Connections of blocking sockets that lead to the proxy themselves.
#include <sys/time.h>

#include <atomic>
#include <csignal>
#include <future>
#include <optional>

#include "test/unit/agent/proxy/socks_server.h"
#include "test/unit/agent/relay_testing.h"

namespace oakum::agent {
namespace {

// "x" is the policy's own proxy, "y" that of a rule.
std::string Policy(uint16_t own, uint16_t other, std::string_view more = "") {
  return fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "socks5h://127.0.0.1:{}"}},
                        "y": {{"url": "socks5h://127.0.0.1:{}"}}}},
           "policies": {{"p": {{"mode": "enforce", "log": "all", "proxy": "x",
                               "outgoing": {{"default": "deny", {}
                                            "redirect": ["192.0.2.0/24",
                                                         "198.51.100.0/24 via y"]}}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      own, other, more);
}

sockaddr_in Address(uint32_t ip) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(80);
  address.sin_addr.s_addr = htonl(ip);
  return address;
}
constexpr uint32_t kOwn = 0xc0000207;    // 192.0.2.7
constexpr uint32_t kOther = 0xc6336407;  // 198.51.100.7

// Tells the client from which port its connection comes to the proxy.
void TellPort(ProxySide& side) {
  sockaddr_in peer = {};
  socklen_t length = sizeof peer;
  getpeername(side.fd(), reinterpret_cast<sockaddr*>(&peer), &length);
  side.Write({reinterpret_cast<const char*>(&peer.sin_port), sizeof peer.sin_port});
  side.AwaitEnd();
}

// 0: the proxy sees the program's own socket; 1: another one; an errno value otherwise.
int Compare(uint32_t ip) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  if (const int error = Connect(fd.get(), Address(ip)); error != 0) {
    return error;
  }
  sockaddr_in own = {};
  socklen_t length = sizeof own;
  in_port_t told = 0;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0 ||
      recv(fd.get(), &told, sizeof told, MSG_WAITALL) != sizeof told) {
    return errno;
  }
  return own.sin_port == told ? 0 : 1;
}

TEST(SessionDirect, ABlockingSocketLeadsToThePolicysOwnProxy) {
  SocksServer own(TellPort);
  SocksServer other(TellPort);
  Guarded guarded(Policy(own.port(), other.port()));
  EXPECT_EQ(guarded.Run([](int) { return Compare(kOwn); }), 0);
  EXPECT_EQ(own.targets(), (std::vector<std::string>{"192.0.2.7:80"}));
}

// While the handshake is spoken on its socket, a thread of the container could write to the proxy
// what it likes: so only where the policy lets it speak to the proxy anyway.
TEST(SessionDirect, AProxyThatTheContainerMayNotSpeakToIsReachedByARelay) {
  SocksServer own(TellPort);
  SocksServer other(TellPort);
  Guarded guarded(Policy(own.port(), other.port()));
  EXPECT_EQ(guarded.Run([&](int) { return ConnectError(other.port()); }), EACCES);
  EXPECT_EQ(guarded.Run([](int) { return Compare(kOther); }), 1);
  EXPECT_EQ(other.targets(), (std::vector<std::string>{"198.51.100.7:80"}));
}

TEST(SessionDirect, TheProxysRefusalIsTheErrorOfTheConnect) {
  std::atomic<int> code{0};
  SocksServer own([&](const std::string&) { return code.load(); }, TellPort);
  Guarded guarded(Policy(own.port(), own.port() + 1));
  const std::vector<std::pair<int, int>> expected = {
      {1, ECONNREFUSED}, {2, EACCES},    {3, ENETUNREACH},
      {4, EHOSTUNREACH}, {6, ETIMEDOUT}, {SocksServer::kClose, ECONNRESET}};
  for (const auto& [reply, error] : expected) {
    code = reply;
    EXPECT_EQ(guarded.Run([](int) { return Compare(kOwn); }), error) << reply;
  }
  // And the socket can be connected again.
  code = 5;
  EXPECT_EQ(guarded.Run([&](int) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    if (Connect(fd.get(), Address(kOwn)) != ECONNREFUSED) {
      return 1;
    }
    return TakeError(fd.get()) != 0 ? 2 : Connect(fd.get(), Address(kOwn)) == ECONNREFUSED ? 0 : 3;
  }),
            0);
}

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child
TEST(SessionDirect, OtherThreadsCannotMoveTheSocketMeanwhile) {
  std::promise<void> go;
  auto ready = go.get_future().share();
  SocksServer own(
      [&](const std::string&) {
        ready.wait();
        return 0;
      },
      TellPort);
  Guarded guarded(Policy(own.port(), own.port() + 1));
  int done[2];
  ASSERT_EQ(pipe2(done, O_CLOEXEC), 0);
  std::thread watcher([&] {
    char byte = 0;
    EXPECT_EQ(read(done[0], &byte, 1), 1);
    go.set_value();
  });
  const int code = guarded.Run([&](int) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    int connected = -1;
    std::thread thread([&] { connected = Connect(fd.get(), Address(kOwn)); });
    // The proxy waits, so the handshake is under way from the moment on that this says EALREADY.
    sockaddr nowhere = {};
    nowhere.sa_family = AF_UNSPEC;
    int disconnected = 0;
    for (int tries = 0; tries < 20000 && disconnected != EALREADY; ++tries) {
      usleep(1000);
      disconnected = connect(fd.get(), &nowhere, sizeof nowhere) == 0 ? 0 : errno;
      if (disconnected == 0) {
        continue;  // before the other thread has come to it
      }
    }
    const int elsewhere = Connect(fd.get(), Address(kOwn + 1));
    if (write(done[1], "g", 1) != 1) {
      return 1;
    }
    thread.join();
    return disconnected != EALREADY ? 2 : elsewhere != EALREADY ? 3 : connected != 0 ? 4 : 0;
  });
  EXPECT_EQ(code, 0);
  if (code == 1) {
    go.set_value();
  }
  close(done[1]);
  watcher.join();
  close(done[0]);
}
#endif

// Signals interrupt the call again and again: it is one connection all the same.
TEST(SessionDirect, SignalsRestartTheCallAndNotTheConnection) {
  SocksServer own(
      [](const std::string&) {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));  // as Tor does
        return 0;
      },
      TellPort);
  Guarded guarded(Policy(own.port(), own.port() + 1));
  EXPECT_EQ(guarded.Run([](int) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, nullptr);
    const itimerval often = {.it_interval = {.tv_sec = 0, .tv_usec = 20000},
                             .it_value = {.tv_sec = 0, .tv_usec = 20000}};
    setitimer(ITIMER_REAL, &often, nullptr);
    const int result = Compare(kOwn);
    const itimerval never = {};
    setitimer(ITIMER_REAL, &never, nullptr);
    return result;
  }),
            0);
  EXPECT_EQ(own.targets().size(), 1U);
}

}  // namespace
}  // namespace oakum::agent
