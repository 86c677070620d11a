// The agent's end of a loopback connection that is not there until a proxy has said yes.
#ifndef OAKUM_AGENT_PROXY_HELD_SOCKET_H_
#define OAKUM_AGENT_PROXY_HELD_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "agent/caller/sockaddr.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

class HeldPort;
class OwnPorts;

// Two TCP sockets on one port of a loopback address. While the connection is held, one of them
// listens with its queue full, so that every SYN is dropped (tcp_conn_request(),
// net/ipv4/tcp_input.c): whoever connects there is in SYN_SENT, natively, for as long as it may
// take: EINPROGRESS, not writable, EALREADY, signals and time limits as ever. Complete() makes the
// other half of a simultaneous open (RFC 9293 section 3.5) on the other, which establishes the
// connection at once; until it has, no SYN that is sent again finds nobody there. Several may share
// one that listens, which is most of the work of making them. Needs no privilege.
class HeldSocket {
 public:
  // In the network namespace of the calling thread; `domain` is AF_INET or AF_INET6. It is known to
  // `ports`, which outlives it, as long as it is held. Errors: EADDRNOTAVAIL where the namespace
  // has no such loopback address, EADDRINUSE when no port is free, those of socket(2).
  [[nodiscard]] static Expected<HeldSocket> Create(int domain, OwnPorts& ports);
  // At least one and at most `count`, 1 to kMaxAtOnce, on one port.
  [[nodiscard]] static Expected<std::vector<HeldSocket>> CreateSome(size_t count, int domain,
                                                                    OwnPorts& ports);
  static constexpr size_t kMaxAtOnce = 8;
  // One that another process held: its fd() and its listener_fd(). Errors: EINVAL for anything
  // else, or when it has been completed.
  [[nodiscard]] static Expected<HeldSocket> TakeUp(UniqueFd fd, UniqueFd listener, OwnPorts& ports);
  HeldSocket(HeldSocket&& other) noexcept;
  HeldSocket& operator=(HeldSocket&& other) noexcept;
  ~HeldSocket();

  // Its address as a socket of `domain` connects to it: an IPv4 one in mapped form for AF_INET6.
  [[nodiscard]] SockaddrCopy AddressFor(int domain) const;
  [[nodiscard]] int domain() const;
  [[nodiscard]] int fd() const { return fd_.get(); }
  // The one that listens; -1 after Take().
  [[nodiscard]] int listener_fd() const;

  // What a relay wants of it (PrepareRelayed), unless that is done: when there is time.
  void Prepare();
  // Connects to the socket at `client`, which is in SYN_SENT towards this one. 0, EINPROGRESS (then
  // EPOLLOUT and SO_ERROR tell), or an errno value: ECONNREFUSED when that socket is no more.
  [[nodiscard]] int Complete(const SockaddrCopy& client);
  // After Complete(): non-blocking.
  [[nodiscard]] UniqueFd Take();

 private:
  HeldSocket(std::shared_ptr<HeldPort> port, UniqueFd fd);

  std::shared_ptr<HeldPort> port_;
  UniqueFd fd_;  // bound, then connected
  bool prepared_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HELD_SOCKET_H_
