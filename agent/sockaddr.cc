#include "agent/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

namespace oakum::agent {

namespace {

// An IPv6 address without scope id (RFC 2133) is as short as the kernel takes it
// (SIN6_LEN_RFC2133 in include/uapi/linux/in6.h of the kernel's own headers).
constexpr socklen_t kShortestSockaddrIn6 = 24;

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

Destination ReadFamily(const SockaddrCopy& address, sa_family_t family, int domain) {
  switch (domain) {
    case AF_INET:
    case AF_INET6:
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
    default: {
      Destination out;
      out.kind = Destination::Kind::kOther;
      return out;
    }
  }
}

}  // namespace

Destination ReadConnectAddress(const SockaddrCopy& address, int domain) {
  if (address.length < sizeof(sa_family_t)) {
    return {};
  }
  return ReadFamily(address, address.storage.ss_family, domain);
}

Destination ReadSendOrBindAddress(const SockaddrCopy& address, int domain) {
  if (address.length < sizeof(sa_family_t)) {
    return {};
  }
  sa_family_t family = address.storage.ss_family;
  if (family == AF_UNSPEC && (domain == AF_INET || domain == AF_INET6)) {
    family = static_cast<sa_family_t>(domain);
  }
  return ReadFamily(address, family, domain);
}

}  // namespace oakum::agent
