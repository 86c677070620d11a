#include "agent/proxy/tcp_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

namespace oakum::agent {

std::optional<uint8_t> TcpState(int socket_fd) {
  tcp_info info = {};
  socklen_t length = sizeof info;
  if (getsockopt(socket_fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) {
    return std::nullopt;
  }
  return info.tcpi_state;
}

int TakeSocketError(int socket_fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(socket_fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

}  // namespace oakum::agent
