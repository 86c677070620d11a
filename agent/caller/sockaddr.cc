#include "agent/caller/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

// Younger than the headers of Debian 12.
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace oakum::agent {

namespace {

// An IPv6 address without scope id (RFC 2133) is as short as the kernel takes it
// (SIN6_LEN_RFC2133 in include/uapi/linux/in6.h of the kernel's own headers).
constexpr socklen_t kShortestSockaddrIn6 = 24;
// No socket has it (AF_MAX, include/linux/socket.h, is far below).
constexpr sa_family_t kNoFamily = 0xffff;

Destination ReadInet(const SockaddrCopy& address) {
  sockaddr_in in = {};
  if (address.length < sizeof in) {
    return {};  // EINVAL from every protocol
  }
  memcpy(&in, &address.storage, sizeof in);
  std::array<uint8_t, 4> bytes;
  memcpy(bytes.data(), &in.sin_addr, sizeof bytes);
  Destination out;
  out.kind = Destination::Kind::kInet;
  out.endpoint = {policy::IpAddress::FromV4(bytes), ntohs(in.sin_port)};
  return out;
}

Destination ReadInet6(const SockaddrCopy& address) {
  sockaddr_in6 in6 = {};
  if (address.length < kShortestSockaddrIn6) {
    return {};
  }
  memcpy(&in6, &address.storage, std::min<size_t>(address.length, sizeof in6));
  std::array<uint8_t, 16> bytes;
  memcpy(bytes.data(), &in6.sin6_addr, sizeof bytes);
  Destination out;
  out.kind = Destination::Kind::kInet;
  out.v6 = true;
  out.endpoint = {policy::IpAddress(bytes), ntohs(in6.sin6_port)};
  return out;
}

// unix(7), "Address format": a path ends at the first NUL or with the length; an abstract name is
// all bytes after the leading NUL.
Destination ReadUnix(const SockaddrCopy& address) {
  constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
  if (address.length <= kPathOffset || address.length > sizeof(sockaddr_un)) {
    return {};
  }
  const char* path = reinterpret_cast<const char*>(&address.storage) + kPathOffset;
  const size_t length = address.length - kPathOffset;
  Destination out;
  if (path[0] == '\0') {
    out.kind = Destination::Kind::kUnixAbstract;
    out.name = {path + 1, length - 1};
  } else {
    out.kind = Destination::Kind::kUnixPath;
    out.name = {path, strnlen(path, length)};
  }
  return out;
}

// Internet sockets whose destination is what the address says. On others (SCTP, DCCP, L2TP, SMC) a
// message or an option can name more addresses; on raw ones the packet does.
bool IsDecoded(const SocketKind& kind) {
  switch (kind.type) {
    case SOCK_STREAM:
      return kind.protocol == IPPROTO_TCP || kind.protocol == IPPROTO_MPTCP;
    case SOCK_DGRAM:
      return kind.protocol == IPPROTO_UDP || kind.protocol == IPPROTO_UDPLITE ||
             kind.protocol == IPPROTO_ICMP || kind.protocol == IPPROTO_ICMPV6;
    default:
      return false;
  }
}

Destination Other() {
  Destination out;
  out.kind = Destination::Kind::kOther;
  return out;
}

Destination ReadFamily(const SockaddrCopy& address, const SocketKind& kind) {
  if (address.length < sizeof(sa_family_t)) {
    return {};
  }
  const sa_family_t family = address.storage.ss_family;
  switch (kind.domain) {
    case AF_INET:
    case AF_INET6:
      if (!IsDecoded(kind)) {
        return Other();
      }
      // Whatever the family of the socket is, an internet address is decided on: an IPv6 datagram
      // socket takes a sockaddr_in (ipv6(7)).
      if (family == AF_INET) {
        return ReadInet(address);
      }
      if (family == AF_INET6) {
        return ReadInet6(address);
      }
      return {};  // AF_UNSPEC disconnects; the rest is EAFNOSUPPORT or EINVAL
    case AF_UNIX:
      return family == AF_UNIX ? ReadUnix(address) : Destination{};
    case AF_NETLINK: {
      Destination out;
      out.kind = Destination::Kind::kNetlink;
      return out;
    }
    default:
      return Other();
  }
}

bool IsUnspecified(const SockaddrCopy& address, const SocketKind& kind) {
  return kind.is_inet() && address.length >= sizeof(sa_family_t) &&
         address.storage.ss_family == AF_UNSPEC;
}

}  // namespace

policy::Endpoint ReadEndpoint(const SockaddrCopy& address) {
  if (address.length < sizeof(sa_family_t)) {
    return {};
  }
  switch (address.storage.ss_family) {
    case AF_INET:
      return ReadInet(address).endpoint;
    case AF_INET6:
      return ReadInet6(address).endpoint;
    default:
      return {};
  }
}

SockaddrCopy WriteEndpoint(const policy::Endpoint& endpoint, int domain) {
  SockaddrCopy out;
  const auto& bytes = endpoint.ip.bytes();
  if (domain == AF_INET6) {
    sockaddr_in6 in6 = {};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(endpoint.port);
    memcpy(&in6.sin6_addr, bytes.data(), sizeof in6.sin6_addr);
    memcpy(&out.storage, &in6, sizeof in6);
    out.length = sizeof in6;
  } else if (domain == AF_INET && endpoint.ip.IsV4()) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    memcpy(&in.sin_addr, bytes.data() + 12, sizeof in.sin_addr);
    memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  }
  return out;
}

Destination ReadConnectAddress(const SockaddrCopy& address, const SocketKind& kind) {
  return ReadFamily(address, kind);
}

Destination ReadSendAddress(SockaddrCopy& address, const SocketKind& kind) {
  if (IsUnspecified(address, kind)) {
    if (kind.protocol == IPPROTO_ICMP || kind.protocol == IPPROTO_ICMPV6) {
      address.storage.ss_family = kNoFamily;  // ping_common_sendmsg(): EAFNOSUPPORT
    } else if (kind.domain == AF_INET) {
      address.storage.ss_family = AF_INET;
    } else {
      address.length = 0;  // the connected peer
    }
  }
  return ReadFamily(address, kind);
}

Destination ReadBindAddress(SockaddrCopy& address, const SocketKind& kind) {
  if (IsUnspecified(address, kind)) {
    sockaddr_in in = {};
    memcpy(&in, &address.storage, sizeof in);
    const bool any = kind.domain == AF_INET && in.sin_addr.s_addr == htonl(INADDR_ANY);
    address.storage.ss_family = any ? sa_family_t{AF_INET} : kNoFamily;
  }
  return ReadFamily(address, kind);
}

}  // namespace oakum::agent
