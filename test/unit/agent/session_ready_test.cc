// Connections to proxies that are made ready for containers that connect often.
#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/proxy/ready_proxies.h"
#include "test/unit/agent/proxy/socks_server.h"
#include "test/unit/agent/relay_testing.h"

namespace oakum::agent {
namespace {

// A connection through the relay, there and back.
int Exchange() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK_THAT(Connect(fd, Elsewhere()) == EINPROGRESS);
  CHECK_THAT(PollFor(fd, POLLOUT, kPatience) == POLLOUT && TakeError(fd) == 0);
  CHECK_THAT(send(fd, "hello", 5, 0) == 5);
  CHECK_THAT(PollFor(fd, POLLIN, kPatience) == POLLIN);
  char buffer[16];
  CHECK_THAT(recv(fd, buffer, sizeof buffer, 0) == 5 && memcmp(buffer, "hello", 5) == 0);
  close(fd);
  return 0;
}

TEST(ReadyConnectionTest, WaitsForTheNextConnectAndEndsWithTheContainer) {
  constexpr int kCount = 20;
  SocksServer proxy(Echo);
  {
    Guarded guarded(Redirecting(proxy.port()));
    EXPECT_EQ(RunIn(guarded,
                    [&](int) {
                      for (int i = 0; i < kCount; ++i) {
                        if (const int line = Exchange(); line != 0) {
                          return line;
                        }
                      }
                      return 0;
                    }),
              0);
    EXPECT_EQ(proxy.targets().size(), kCount);
    for (int waits = 0; waits < 200 && proxy.accepted() <= kCount; ++waits) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_GT(proxy.accepted(), kCount) << "none was made ready";
    EXPECT_LE(proxy.accepted(), kCount + ReadyProxies::kMaxReady);
  }
  // The end of `proxy` waits until all of its connections are closed.
}

TEST(ReadyConnectionTest, OfOneProcessServesNoOther) {
  SocksServer proxy(Echo);
  Guarded guarded(fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "socks5h://127.0.0.1:{}", "isolate": "process"}}}},
           "policies": {{"p": {{"mode": "enforce", "proxy": "x",
                               "outgoing": {{"default": "redirect"}}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      proxy.port()));
  constexpr int kEach = 6;
  EXPECT_EQ(RunIn(guarded,
                  [&](int) {
                    for (int process = 0; process < 2; ++process) {
                      const pid_t child = fork();
                      CHECK_THAT(child >= 0);
                      if (child == 0) {
                        int line = 0;
                        for (int i = 0; i < kEach && line == 0; ++i) {
                          line = Exchange();
                        }
                        _exit(line);
                      }
                      int status = 0;
                      CHECK_THAT(waitpid(child, &status, 0) == child && status == 0);
                    }
                    return 0;
                  }),
            0);
  const std::vector<std::string> users = proxy.users();
  EXPECT_EQ(std::set<std::string>(users.begin(), users.end()).size(), 2U);
  EXPECT_EQ(proxy.targets().size(), 2U * kEach);
  // What was made ready for the first was of no use to the second, which greeted for itself.
  EXPECT_GE(std::ranges::count(users, users.back()), kEach);
}

}  // namespace
}  // namespace oakum::agent
