// The agent's end of a loopback connection that is not there until a proxy has said yes.
#ifndef OAKUM_AGENT_PROXY_HELD_SOCKET_H_
#define OAKUM_AGENT_PROXY_HELD_SOCKET_H_

#include <cstdint>

#include "agent/sockaddr.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

class OwnPorts;

// Two TCP sockets on one port of a loopback address. While the connection is held, one of them
// listens with its queue full, so that every SYN is dropped (tcp_conn_request(),
// net/ipv4/tcp_input.c): whoever connects there is in SYN_SENT, natively, for as long as it may
// take: EINPROGRESS, not writable, EALREADY, signals and time limits as ever. Complete() makes the
// other half of a simultaneous open (RFC 9293 section 3.5) on the other, which establishes the
// connection at once; until it has, no SYN that is sent again finds nobody there. Needs no
// privilege.
class HeldSocket {
 public:
  // In the network namespace of the calling thread; `domain` is AF_INET or AF_INET6. It is known to
  // `ports`, which outlives it, as long as it is held. Errors: EADDRNOTAVAIL where the namespace
  // has no such loopback address, EADDRINUSE when no port is free, those of socket(2).
  [[nodiscard]] static Expected<HeldSocket> Create(int domain, OwnPorts& ports);
  HeldSocket(HeldSocket&& other) noexcept;
  HeldSocket& operator=(HeldSocket&&) = delete;
  ~HeldSocket() { Unregister(); }

  // Its address as a socket of `domain` connects to it: an IPv4 one in mapped form for AF_INET6.
  [[nodiscard]] SockaddrCopy AddressFor(int domain) const;
  [[nodiscard]] int domain() const { return domain_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

  // Connects to the socket at `client`, which is in SYN_SENT towards this one. 0, EINPROGRESS (then
  // EPOLLOUT and SO_ERROR tell), or an errno value: ECONNREFUSED when that socket is no more.
  [[nodiscard]] int Complete(const SockaddrCopy& client);
  // After Complete(): non-blocking, without delay (TCP_NODELAY), and watched (SO_KEEPALIVE), so
  // that a container's socket that has vanished is noticed.
  [[nodiscard]] UniqueFd Take();

 private:
  HeldSocket(UniqueFd listener, UniqueFd fd, int domain, uint16_t port, OwnPorts& ports,
             uint64_t netns);
  void Unregister();

  UniqueFd listener_;
  UniqueFd fd_;  // bound, then connected
  int domain_;
  uint16_t port_;
  OwnPorts* ports_;  // null: not known any more
  uint64_t netns_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HELD_SOCKET_H_
