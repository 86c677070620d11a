#include "agent/proxy/proxy_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace oakum::agent {

namespace {

// A peer that is gone without a word is noticed, so that the other side of a relay is reset: its
// own SO_KEEPALIVE sees no farther than the relay.
constexpr int kKeepIdleSeconds = 60;
constexpr int kKeepIntervalSeconds = 15;
constexpr int kKeepProbes = 4;

}  // namespace

SockaddrCopy InetSockaddr(const policy::Endpoint& endpoint, bool as_v6) {
  SockaddrCopy copy;
  const auto& bytes = endpoint.ip.bytes();
  if (endpoint.ip.IsV4() && !as_v6) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    std::memcpy(&address.sin_addr, bytes.data() + 12, sizeof address.sin_addr);
    std::memcpy(&copy.storage, &address, sizeof address);
    copy.length = sizeof address;
  } else {
    sockaddr_in6 address = {};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(endpoint.port);
    std::memcpy(&address.sin6_addr, bytes.data(), sizeof address.sin6_addr);
    std::memcpy(&copy.storage, &address, sizeof address);
    copy.length = sizeof address;
  }
  return copy;
}

SockaddrCopy UnixSockaddr(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t size = std::min(path.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path.data(), size);
  SockaddrCopy copy;
  copy.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size + 1);
  std::memcpy(&copy.storage, &address, copy.length);
  return copy;
}

void PrepareRelayed(int socket_fd) {
  const int on = 1;
  (void)setsockopt(socket_fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)setsockopt(socket_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepIdleSeconds,
                   sizeof kKeepIdleSeconds);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepIntervalSeconds,
                   sizeof kKeepIntervalSeconds);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPCNT, &kKeepProbes, sizeof kKeepProbes);
}

int FittingErrno(int error) {
  switch (error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ETIMEDOUT:
    case EACCES:
    case EADDRNOTAVAIL:
    case EPROTO:
      return error;
    case EPERM:
      return EACCES;
    case ENETDOWN:
      return ENETUNREACH;
    case EHOSTDOWN:
      return EHOSTUNREACH;
    case EPIPE:
      return ECONNRESET;
    default:
      return ECONNREFUSED;
  }
}

}  // namespace oakum::agent
