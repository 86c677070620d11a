// Socket addresses as the kernel would read them. Pure: bytes in, values out.
#ifndef OAKUM_AGENT_SOCKADDR_H_
#define OAKUM_AGENT_SOCKADDR_H_

#include <sys/socket.h>

#include <cstdint>
#include <string_view>

#include "policy/address.h"

namespace oakum::agent {

// The bytes of a sockaddr, copied once from the container.
struct SockaddrCopy {
  sockaddr_storage storage = {};
  socklen_t length = 0;  // 0..sizeof storage

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// What a call on a socket of a given domain does with an address.
struct Destination {
  enum class Kind : uint8_t {
    kNone,  // no destination: disconnect, "the connected peer", or an error that the kernel finds
            // before anything is sent; harmless to perform
    kInet,  // `endpoint`
    kUnixPath,      // `name`, absolute or relative to the caller's working directory
    kUnixAbstract,  // `name` without the leading NUL
    kNetlink,
    kOther,  // a family that is not decoded: refused
  };
  Kind kind = Kind::kNone;
  bool v6 = false;            // kInet: written as IPv6
  policy::Endpoint endpoint;  // not canonicalised
  std::string_view name;      // points into the SockaddrCopy
};

// How connect(2) on a socket of `domain` (SO_DOMAIN) reads the address: AF_UNSPEC disconnects.
[[nodiscard]] Destination ReadConnectAddress(const SockaddrCopy& address, int domain);

// How sendto(2), sendmsg(2) and bind(2) read it: there the kernel takes AF_UNSPEC for the family of
// the socket (udp_sendmsg() and __inet_bind() in net/ipv4, rawv6_sendmsg() in net/ipv6).
[[nodiscard]] Destination ReadSendOrBindAddress(const SockaddrCopy& address, int domain);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SOCKADDR_H_
