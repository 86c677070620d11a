// What guarded programs do in the tests of datagrams.
#ifndef OAKUM_TEST_UNIT_AGENT_DATAGRAM_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_DATAGRAM_TESTING_H_

#include <poll.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {

// A policy that carries everything but what `more` says.
inline std::string Carrying(uint16_t proxy_port, std::string_view more = {}) {
  return fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "socks5h://127.0.0.1:{}"}}}},
           "policies": {{"p": {{"mode": "enforce", "proxy": "x", "dns": "proxy",
               "outgoing": {{"default": "redirect"{}}}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      proxy_port, more);
}

inline sockaddr_in V4(uint32_t ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(ip);
  return address;
}

// A datagram socket; `flags`: of socket(2)'s type.
inline UniqueFd UdpSocket(int domain = AF_INET, int flags = 0) {
  UniqueFd fd(socket(domain, SOCK_DGRAM | flags, 0));
  if (!fd) {
    std::abort();
  }
  return fd;
}

inline bool WaitForInput(int fd) {
  constexpr int kPatience = 5000;  // milliseconds
  pollfd ready = {fd, POLLIN, 0};
  return poll(&ready, 1, kPatience) == 1;
}

// The next datagram: what it says and where it came from.
inline std::string Next(int fd) {
  if (!WaitForInput(fd)) {
    return "nothing came";
  }
  char data[256];
  sockaddr_in from = {};
  socklen_t length = sizeof from;
  const ssize_t got =
      recvfrom(fd, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&from), &length);
  if (got < 0) {
    return fmt::format("recvfrom: {}", errno);
  }
  char ip[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &from.sin_addr, ip, sizeof ip);
  return fmt::format("{} from {}:{}", std::string_view(data, static_cast<size_t>(got)), ip,
                     ntohs(from.sin_port));
}

inline int SendText(int fd, const sockaddr_in& to, std::string_view text) {
  return sendto(fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                sizeof to) == static_cast<ssize_t>(text.size())
             ? 0
             : errno;
}

// Sends to `to` and gives back what comes, with where it came from.
inline std::string Exchange(int fd, const sockaddr_in& to, std::string_view text) {
  const int error = SendText(fd, to, text);
  return error != 0 ? fmt::format("sendto: {}", error) : Next(fd);
}

// What `body` writes in a guarded child; it has to end with 0.
inline std::string OutputOf(Guarded& guarded, const std::function<int(int)>& body) {
  std::string output;
  EXPECT_EQ(guarded.Run(body, &output), 0);
  return output;
}

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_DATAGRAM_TESTING_H_
