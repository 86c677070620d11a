// What a socket is, asked of the kernel once.
#ifndef OAKUM_AGENT_CALLER_SOCKET_KINDS_H_
#define OAKUM_AGENT_CALLER_SOCKET_KINDS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "agent/caller/sockaddr.h"

namespace oakum::agent {

// What tells a socket from all others as long as the machine runs (socket(7), SO_COOKIE); 0 for
// none.
[[nodiscard]] uint64_t SocketCookie(int socket_fd);

// Asks the kernel what a socket is in one system call; nothing where that does not work.
class KindReader {
 public:
  virtual ~KindReader() = default;
  [[nodiscard]] virtual std::optional<SocketKind> ReadKind(int socket_fd) = 0;
};

// Remembers the kinds of the sockets that were asked for last, by their cookies: no other socket
// ever has the same one, and type and protocol stay what they are from socket(2) on (a socket that
// TCP_ULP "smc" makes another one of has another cookie). The domain stays as well, but for
// IPV6_ADDRFORM, which makes an IPv6 socket an IPv4 one and never the other way: that of an IPv6
// socket is asked for each time. Not thread-safe.
class SocketKinds {
 public:
  // Returns 0 or an errno value: ENOTSOCK, or EBADF for what was opened with O_PATH. `at_once` is
  // asked about sockets only; without it (null) there is a system call for each thing to know.
  [[nodiscard]] int Read(int socket_fd, SocketKind& kind, uint64_t& cookie,
                         KindReader* at_once = nullptr);
  // Whether NoteUnbound() has been told the same of that socket, which is still remembered.
  [[nodiscard]] bool IsUnbound(uint64_t cookie, uint64_t without) const {
    const Place& place = places_[cookie % kPlaces];
    return place.cookie == cookie && place.unbound == without;
  }
  // It is bound to no network interface as long as BindingSessions::Without() says that number,
  // which is not 0.
  void NoteUnbound(uint64_t cookie, uint64_t without) {
    Place& place = places_[cookie % kPlaces];
    place.unbound = place.cookie == cookie ? without : 0;
  }

 private:
  struct Place {
    uint64_t cookie = 0;
    SocketKind kind;
    uint64_t unbound = 0;
  };
  // By cookie, which is counted up; one with the same remainder takes another's place.
  static constexpr size_t kPlaces = 32;
  std::array<Place, kPlaces> places_{};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_SOCKET_KINDS_H_
