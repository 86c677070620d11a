// What the tests of connections through a relay share: a policy that redirects everything, a
// network without a way out, and what a guarded child does with its sockets.
#ifndef OAKUM_TEST_UNIT_AGENT_RELAY_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_RELAY_TESTING_H_

#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <functional>
#include <string>
#include <string_view>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {

inline constexpr int kPatience = 20'000;  // milliseconds; only what is wrong takes as long

inline std::string Redirecting(uint16_t port, std::string_view scheme = "socks5h",
                               std::string_view more = "") {
  return fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "{}://127.0.0.1:{}"}}}},
           "policies": {{"p": {{"mode": "enforce", "log": "all", "proxy": "x",
                               "outgoing": {{"default": "redirect"}}{}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      scheme, port, more);
}

inline sockaddr_in Elsewhere(uint16_t port = 80) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(0xc0000207);  // 192.0.2.7 (RFC 5737)
  return address;
}

inline int Connect(int fd, const sockaddr_in& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

inline int PollFor(int fd, short events, int timeout) {
  pollfd wait = {fd, events, 0};
  return poll(&wait, 1, timeout) == 1 ? wait.revents : 0;
}

inline int TakeError(int fd) {
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
inline bool EnterEmptyNetwork() {
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
inline int RunIn(Guarded& guarded, const std::function<int(int)>& body) {
  const int code = guarded.Run(body);
  if (code != 0) {
    for (const Event& event : guarded.sink().events()) {
      ADD_FAILURE() << event.syscall << ": " << event.rule << ": " << event.detail << ": errno "
                    << event.errno_value;
    }
  }
  return code;
}

// Instantiated in session_relay_test.cc, once for all files.
class RelayTest : public testing::TestWithParam<bool> {
 protected:
  // In the agent's own network namespace, or in one without any network.
  static bool Enter() { return !GetParam() || EnterEmptyNetwork(); }
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_RELAY_TESTING_H_
