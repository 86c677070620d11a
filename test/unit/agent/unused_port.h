// Ports that nobody answers at, and that nobody else gets meanwhile.
#ifndef OAKUM_TEST_UNIT_AGENT_UNUSED_PORT_H_
#define OAKUM_TEST_UNIT_AGENT_UNUSED_PORT_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

#include "base/unique_fd.h"

namespace oakum::agent {

// A TCP port of 127.0.0.1 that is bound and not listened on: connections are refused. One that had
// been given back would be another process's soon, or that of the very socket that is connected to
// it.
class UnusedPort {
 public:
  UnusedPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

// Has a bound datagram socket take nothing but its own datagrams: others find nobody at its port
// (ECONNREFUSED, by way of ICMP).
inline void HearNobody(int socket_fd) {
  sockaddr_storage own = {};
  socklen_t length = sizeof own;
  (void)getsockname(socket_fd, reinterpret_cast<sockaddr*>(&own), &length);
  (void)connect(socket_fd, reinterpret_cast<const sockaddr*>(&own), length);
}

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_UNUSED_PORT_H_
