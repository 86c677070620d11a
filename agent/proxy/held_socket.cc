#include "agent/proxy/held_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/caller/netns.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/proxy_socket.h"
#include "agent/proxy/tcp_socket.h"

namespace oakum::agent {

namespace {

// Where the kernel takes the ports of outgoing connections from (ip_local_port_range,
// ip-sysctl.rst, by default): there no server has its own.
constexpr uint16_t kFirstPort = 32768;
constexpr uint16_t kPortCount = 28232;
constexpr int kMaxTries = 64;
constexpr int kMaxDelay = 1000;  // milliseconds

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

// All to the same port.
int BindSomewhere(const std::vector<UniqueFd>& fds, int domain, uint16_t& port) {
  int error = EADDRINUSE;
  for (int i = 0; i < kMaxTries && error == EADDRINUSE; ++i) {
    uint16_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) {
      return EAGAIN;
    }
    port = static_cast<uint16_t>(kFirstPort + random % kPortCount);
    const SockaddrCopy address = Loopback(domain, port);
    error = bind(fds.front().get(), address.get(), address.length) == 0 ? 0 : errno;
    for (size_t other = 1; error == 0 && other < fds.size(); ++other) {
      if (bind(fds[other].get(), address.get(), address.length) != 0) {
        return errno;
      }
    }
  }
  return error;
}

UniqueFd NewSocket(int domain) {
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  const int on = 1;
  // Several sockets may have one port as long as none of the others listens (socket(7),
  // SO_REUSEADDR): which is so for these, and for nobody else's.
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

// The socket that listens, for as long as one that shares its port is held.
class HeldPort {
 public:
  HeldPort(UniqueFd listener, int domain, uint16_t port, OwnPorts& ports)
      : listener_(std::move(listener)),
        domain_(domain),
        port_(port),
        ports_(ports),
        netns_(NetworkCookie(listener_.get())) {
    ports_.Add(netns_, port_);
  }
  ~HeldPort() { ports_.Remove(netns_, port_); }
  HeldPort(const HeldPort&) = delete;
  HeldPort& operator=(const HeldPort&) = delete;

  [[nodiscard]] int domain() const { return domain_; }
  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] int listener_fd() const { return listener_.get(); }

 private:
  const UniqueFd listener_;
  const int domain_;
  const uint16_t port_;
  OwnPorts& ports_;
  const uint64_t netns_;
};

HeldSocket::HeldSocket(std::shared_ptr<HeldPort> port, UniqueFd fd)
    : port_(std::move(port)), fd_(std::move(fd)) {}
HeldSocket::HeldSocket(HeldSocket&& other) noexcept = default;
HeldSocket& HeldSocket::operator=(HeldSocket&& other) noexcept = default;
HeldSocket::~HeldSocket() = default;

Expected<HeldSocket> HeldSocket::Create(int domain, OwnPorts& ports) {
  auto one = CreateSome(1, domain, ports);
  if (!one) {
    return std::unexpected(std::move(one.error()));
  }
  return std::move(one->front());
}

Expected<std::vector<HeldSocket>> HeldSocket::CreateSome(size_t count, int domain,
                                                         OwnPorts& ports) {
  std::vector<UniqueFd> fds;
  while (fds.size() < count + 1) {
    fds.push_back(NewSocket(domain));
    if (!fds.back()) {
      if (fds.size() <= 2) {
        return ErrnoError("a socket to hold a connection");
      }
      fds.pop_back();
      break;
    }
  }
  uint16_t port = 0;
  if (const int error = BindSomewhere(fds, domain, port); error != 0) {
    return ErrnoError(error, "bind a loopback address");
  }
  UniqueFd listener = std::move(fds.back());
  fds.pop_back();
  const int listener_fd = listener.get();
  const auto shared = std::make_shared<HeldPort>(std::move(listener), domain, port, ports);
  if (const int error = ListenWithFullQueue(listener_fd, domain, port); error != 0) {
    return ErrnoError(error, "hold a connection");
  }
  std::vector<HeldSocket> made;
  made.reserve(fds.size());
  for (UniqueFd& fd : fds) {
    made.push_back(HeldSocket(shared, std::move(fd)));
  }
  return made;
}

Expected<HeldSocket> HeldSocket::TakeUp(UniqueFd fd, UniqueFd listener, OwnPorts& ports) {
  SockaddrCopy own;
  SockaddrCopy listens;
  for (const auto& [socket_fd, address] :
       {std::pair{fd.get(), &own}, std::pair{listener.get(), &listens}}) {
    address->length = sizeof address->storage;
    if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address->storage), &address->length) !=
        0) {
      return ErrnoError("getsockname");
    }
  }
  const uint16_t port = ReadEndpoint(own).port;
  if (TcpState(fd.get()) != TCP_CLOSE || TcpState(listener.get()) != TCP_LISTEN || port == 0 ||
      port != ReadEndpoint(listens).port) {
    return MakeError(EINVAL, "no socket that holds a connection");
  }
  const int domain = own.storage.ss_family;
  return HeldSocket(std::make_shared<HeldPort>(std::move(listener), domain, port, ports),
                    std::move(fd));
}

int HeldSocket::listener_fd() const { return port_ != nullptr ? port_->listener_fd() : -1; }

int HeldSocket::domain() const { return port_->domain(); }

SockaddrCopy HeldSocket::AddressFor(int domain) const {
  if (domain == port_->domain()) {
    return Loopback(domain, port_->port());
  }
  SockaddrCopy address = Loopback(AF_INET6, port_->port());
  sockaddr_in6 in6 = {};
  memcpy(&in6, &address.storage, sizeof in6);
  const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  memcpy(&in6.sin6_addr, mapped, sizeof mapped);
  memcpy(&address.storage, &in6, sizeof in6);
  return address;
}

void HeldSocket::Prepare() {
  if (!std::exchange(prepared_, true)) {
    PrepareRelayed(fd_.get());
  }
}

int HeldSocket::Complete(const SockaddrCopy& client) {
  return connect(fd_.get(), client.get(), client.length) == 0 ? 0 : errno;
}

UniqueFd HeldSocket::Take() {
  port_.reset();
  return std::move(fd_);
}

}  // namespace oakum::agent
