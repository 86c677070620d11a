// Socket addresses as the kernel would read them. Pure: bytes in, values out.
#ifndef OAKUM_AGENT_CALLER_SOCKADDR_H_
#define OAKUM_AGENT_CALLER_SOCKADDR_H_

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

// What decides how a socket reads an address.
struct SocketKind {
  int domain = 0;    // SO_DOMAIN
  int type = 0;      // SO_TYPE
  int protocol = 0;  // SO_PROTOCOL

  [[nodiscard]] bool is_stream() const { return type == SOCK_STREAM; }
  [[nodiscard]] bool is_inet() const { return domain == AF_INET || domain == AF_INET6; }
};

// What a call on such a socket does with an address.
struct Destination {
  enum class Kind : uint8_t {
    kNone,  // no destination: disconnect, "the connected peer", or an error that the kernel finds
            // before anything is sent; harmless to perform
    kInet,  // `endpoint`
    kUnixPath,      // `name`, absolute or relative to the caller's working directory
    kUnixAbstract,  // `name` without the leading NUL
    kNetlink,
    kOther,  // a family or a protocol that is not decoded: refused
  };
  Kind kind = Kind::kNone;
  bool v6 = false;            // kInet: written as IPv6
  policy::Endpoint endpoint;  // not canonicalised
  std::string_view name;      // points into the SockaddrCopy
};

// The internet address and port that the kernel has written (getsockname(2), accept(2)); :: and 0
// for others.
[[nodiscard]] policy::Endpoint ReadEndpoint(const SockaddrCopy& address);
// The same as a socket of that family (AF_INET, AF_INET6) is given and told it: IPv4 as
// ::ffff:a.b.c.d on IPv6 sockets (ipv6(7)). Of no length where the family cannot name it.
[[nodiscard]] SockaddrCopy WriteEndpoint(const policy::Endpoint& endpoint, int domain);

// How connect(2) on a socket of `kind` reads the address: AF_UNSPEC disconnects.
[[nodiscard]] Destination ReadConnectAddress(const SockaddrCopy& address, const SocketKind& kind);

// How sendto(2) and sendmsg(2), and how bind(2) read it. There AF_UNSPEC may stand for the family
// of the socket or for no address, which is for the socket to say when the call is made
// (udp_sendmsg(), raw_sendmsg() and __inet_bind() in net/ipv4, udpv6_sendmsg() and rawv6_sendmsg()
// in net/ipv6), and a container can turn an IPv6 socket into an IPv4 one at any time (ipv6(7),
// IPV6_ADDRFORM). So `address` is rewritten to what was read: afterwards it has a family that means
// the same to both, or one that both refuse as they would have refused AF_UNSPEC, or no length.
[[nodiscard]] Destination ReadSendAddress(SockaddrCopy& address, const SocketKind& kind);
[[nodiscard]] Destination ReadBindAddress(SockaddrCopy& address, const SocketKind& kind);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_SOCKADDR_H_
