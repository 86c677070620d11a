#include "agent/proxy/held_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/proxy/carrier.h"
#include "agent/proxy/netns.h"

namespace oakum::agent {

namespace {

// Where the kernel takes the ports of outgoing connections from (ip_local_port_range,
// ip-sysctl.rst, by default): there no server has its own.
constexpr uint16_t kFirstPort = 32768;
constexpr uint16_t kPortCount = 28232;
constexpr int kMaxTries = 64;
constexpr int kMaxDelay = 1000;  // milliseconds

constexpr int kKeepIdleSeconds = 60;
constexpr int kKeepIntervalSeconds = 15;
constexpr int kKeepProbes = 4;

SockaddrCopy Loopback(int domain, uint16_t port) {
  SockaddrCopy address;
  if (domain == AF_INET) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&address.storage, &in, sizeof in);
    address.length = sizeof in;
  } else {
    sockaddr_in6 in6 = {};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    in6.sin6_addr = in6addr_loopback;
    memcpy(&address.storage, &in6, sizeof in6);
    address.length = sizeof in6;
  }
  return address;
}

// What an end of a relay wants.
void Prepare(int socket_fd) {
  const int on = 1;
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)setsockopt(socket_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepIdleSeconds,
                   sizeof kKeepIdleSeconds);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepIntervalSeconds,
                   sizeof kKeepIntervalSeconds);
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_KEEPCNT, &kKeepProbes, sizeof kKeepProbes);
}

// Both to the same port.
int BindSomewhere(int one_fd, int other_fd, int domain, uint16_t& port) {
  int error = EADDRINUSE;
  for (int i = 0; i < kMaxTries && error == EADDRINUSE; ++i) {
    uint16_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) {
      return EAGAIN;
    }
    port = static_cast<uint16_t>(kFirstPort + random % kPortCount);
    const SockaddrCopy address = Loopback(domain, port);
    error = bind(one_fd, address.get(), address.length) == 0 ? 0 : errno;
    if (error == 0) {
      return bind(other_fd, address.get(), address.length) == 0 ? 0 : errno;
    }
  }
  return error;
}

UniqueFd NewSocket(int domain) {
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  const int on = 1;
  // Two sockets may have one port as long as the other one does not listen (socket(7),
  // SO_REUSEADDR): which is so for these two, and for nobody else's.
  if (fd && (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
             (domain == AF_INET6 &&
              setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0))) {
    fd.Reset();
  }
  return fd;
}

// Listens for one more than nobody, and has somebody come. Whoever it was may go again: the place
// stays taken until accept(2). 0 or an errno value.
int ListenWithFullQueue(int socket_fd, int domain, uint16_t port) {
  if (listen(socket_fd, 0) != 0) {
    return errno;
  }
  const UniqueFd visitor(socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!visitor) {
    return errno;
  }
  const linger reset = {1, 0};  // leaves nothing behind
  (void)setsockopt(visitor.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  const SockaddrCopy address = Loopback(domain, port);
  if (connect(visitor.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
    return errno;
  }
  // The kernel does it before connect(2) returns, unless it has put off what comes in.
  pollfd come = {socket_fd, POLLIN, 0};
  return poll(&come, 1, kMaxDelay) == 1 ? 0 : ETIMEDOUT;
}

}  // namespace

HeldSocket::HeldSocket(UniqueFd listener, UniqueFd fd, int domain, uint16_t port, OwnPorts& ports,
                       uint64_t netns)
    : listener_(std::move(listener)),
      fd_(std::move(fd)),
      domain_(domain),
      port_(port),
      ports_(&ports),
      netns_(netns) {
  ports_->Add(netns_, port_);
}

HeldSocket::HeldSocket(HeldSocket&& other) noexcept
    : listener_(std::move(other.listener_)),
      fd_(std::move(other.fd_)),
      domain_(other.domain_),
      port_(other.port_),
      ports_(std::exchange(other.ports_, nullptr)),
      netns_(other.netns_) {}

void HeldSocket::Unregister() {
  if (ports_ != nullptr) {
    std::exchange(ports_, nullptr)->Remove(netns_, port_);
  }
}

Expected<HeldSocket> HeldSocket::Create(int domain, OwnPorts& ports) {
  UniqueFd listener = NewSocket(domain);
  UniqueFd fd = NewSocket(domain);
  if (!listener || !fd) {
    return ErrnoError("a socket to hold a connection");
  }
  uint16_t port = 0;
  if (const int error = BindSomewhere(listener.get(), fd.get(), domain, port); error != 0) {
    return ErrnoError(error, "bind a loopback address");
  }
  Prepare(fd.get());
  const uint64_t netns = NetworkCookie(fd.get());
  HeldSocket held(std::move(listener), std::move(fd), domain, port, ports, netns);
  if (const int error = ListenWithFullQueue(held.listener_.get(), domain, port); error != 0) {
    return ErrnoError(error, "hold a connection");
  }
  return held;
}

SockaddrCopy HeldSocket::AddressFor(int domain) const {
  if (domain == domain_) {
    return Loopback(domain, port_);
  }
  SockaddrCopy address = Loopback(AF_INET6, port_);
  sockaddr_in6 in6 = {};
  memcpy(&in6, &address.storage, sizeof in6);
  const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  memcpy(&in6.sin6_addr, mapped, sizeof mapped);
  memcpy(&address.storage, &in6, sizeof in6);
  return address;
}

int HeldSocket::Complete(const SockaddrCopy& client) {
  return connect(fd_.get(), client.get(), client.length) == 0 ? 0 : errno;
}

UniqueFd HeldSocket::Take() {
  Unregister();
  listener_.Reset();
  return std::move(fd_);
}

}  // namespace oakum::agent
