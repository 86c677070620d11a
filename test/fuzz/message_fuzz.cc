// What a container passes to connect, bind and the send calls, as bytes: addresses of every family,
// message headers and their pieces of both word sizes, control messages. The first byte says which.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "agent/caller/message.h"
#include "agent/caller/sockaddr.h"
#include "agent/calls/control_messages.h"

namespace {

using oakum::agent::Destination;
using oakum::agent::MessageHeader;
using oakum::agent::SockaddrCopy;
using oakum::agent::SocketKind;

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

constexpr std::array kKinds = {
    SocketKind{AF_INET, SOCK_DGRAM, IPPROTO_UDP},
    SocketKind{AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
    SocketKind{AF_INET, SOCK_STREAM, IPPROTO_TCP},
    SocketKind{AF_INET6, SOCK_STREAM, IPPROTO_TCP},
    SocketKind{AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
    SocketKind{AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6},
    SocketKind{AF_INET, SOCK_RAW, IPPROTO_UDP},
    SocketKind{AF_INET, SOCK_STREAM, IPPROTO_SCTP},
    SocketKind{AF_UNIX, SOCK_DGRAM, 0},
    SocketKind{AF_UNIX, SOCK_STREAM, 0},
    SocketKind{AF_NETLINK, SOCK_RAW, 0},
    SocketKind{AF_VSOCK, SOCK_STREAM, 0},
};

bool Same(const SockaddrCopy& a, const SockaddrCopy& b) {
  return a.length == b.length && memcmp(&a.storage, &b.storage, sizeof a.storage) == 0;
}

bool Same(const Destination& a, const Destination& b) {
  return a.kind == b.kind && a.endpoint == b.endpoint && a.name == b.name;
}

void Check(const Destination& out, const SockaddrCopy& address, const SocketKind& kind) {
  const std::string_view bytes(reinterpret_cast<const char*>(&address.storage), address.length);
  if (!out.name.empty()) {
    Demand(out.name.data() >= bytes.data() &&
           out.name.data() + out.name.size() <= bytes.data() + bytes.size());
  }
  switch (out.kind) {
    case Destination::Kind::kNone:
      break;
    case Destination::Kind::kInet:
      Demand(kind.is_inet() && address.length >= sizeof(sockaddr_in));
      break;
    case Destination::Kind::kUnixPath:
      Demand(kind.domain == AF_UNIX && !out.name.empty() && !out.name.contains('\0'));
      break;
    case Destination::Kind::kUnixAbstract:
      Demand(kind.domain == AF_UNIX && out.name.size() <= 107);
      break;
    case Destination::Kind::kNetlink:
      Demand(kind.domain == AF_NETLINK);
      break;
    case Destination::Kind::kOther:
      Demand(kind.domain == AF_VSOCK || kind.type == SOCK_RAW || kind.protocol == IPPROTO_SCTP);
      break;
  }
}

// What was read is what the socket will find, also if it becomes one of the other domain.
void CheckRewritten(const Destination& read, const SockaddrCopy& address, const SocketKind& kind) {
  Check(read, address, kind);
  if (!kind.is_inet() || read.kind == Destination::Kind::kOther) {
    return;
  }
  Demand(address.length < sizeof(sa_family_t) || address.storage.ss_family != AF_UNSPEC);
  for (const int domain : {AF_INET, AF_INET6}) {
    SocketKind other = kind;
    other.domain = domain;
    SockaddrCopy again = address;
    Demand(Same(ReadSendAddress(again, other), read) && Same(again, address));
    Demand(Same(ReadBindAddress(again, other), read) && Same(again, address));
  }
}

void Sockaddr(const uint8_t* data, size_t size) {
  if (size < 1) {
    return;
  }
  const SocketKind& kind = kKinds[data[0] % kKinds.size()];
  SockaddrCopy address;
  address.length = static_cast<socklen_t>(std::min(size - 1, sizeof address.storage));
  memcpy(&address.storage, data + 1, address.length);
  Check(ReadConnectAddress(address, kind), address, kind);
  (void)ReadEndpoint(address);
  SockaddrCopy sent = address;
  const Destination send = ReadSendAddress(sent, kind);
  Demand(sent.length <= address.length);
  CheckRewritten(send, sent, kind);
  SockaddrCopy bound = address;
  const Destination bind = ReadBindAddress(bound, kind);
  Demand(bound.length == address.length);
  CheckRewritten(bind, bound, kind);
}

void Header(const uint8_t* data, size_t size, bool compat) {
  const auto* bytes = reinterpret_cast<const char*>(data);
  const size_t header_size = oakum::agent::RawHeaderSize(compat);
  if (size < header_size) {
    return;
  }
  const auto raw = oakum::agent::DecodeRawHeader(bytes, compat);
  Demand(!compat || (raw.name <= UINT32_MAX && raw.pieces <= UINT32_MAX &&
                     raw.control <= UINT32_MAX && raw.control_length <= UINT32_MAX));
  MessageHeader out;
  const std::vector<char> pieces(bytes + header_size, bytes + size);
  if (oakum::agent::DecodePieces(pieces, compat, out) != 0) {
    return;
  }
  size_t total = 0;
  for (const iovec& piece : out.pieces) {
    Demand(piece.iov_len > 0);
    total += piece.iov_len;
  }
  Demand(total == out.size && total <= oakum::agent::kMaxBytes);
}

void Control(const uint8_t* data, size_t size, bool compat) {
  std::vector<char> control(data, data + size);
  if (compat) {
    std::vector<char> native;
    if (!oakum::agent::ConvertCompatControl(control, native)) {
      return;
    }
    // Headers grow from 12 to 16 bytes, and records are aligned to 8 bytes instead of 4.
    Demand(native.size() <= 2 * control.size() + sizeof(cmsghdr));
    msghdr message = {};
    message.msg_control = native.data();
    message.msg_controllen = native.size();
    for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
      Demand(at->cmsg_len >= sizeof(cmsghdr));
    }
    control = std::move(native);
  }
  oakum::agent::ControlMessages out;
  oakum::agent::ScanInternet(control, out);
  Demand(out.bytes == control && out.rights.empty());
  oakum::agent::PinToLoopback(out);
  Demand(out.bytes.size() >= control.size() && out.bytes.size() % alignof(cmsghdr) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  switch (data[0] % 5) {
    case 0:
      Sockaddr(data + 1, size - 1);
      break;
    case 1:
    case 2:
      Header(data + 1, size - 1, data[0] % 5 == 2);
      break;
    default:
      Control(data + 1, size - 1, data[0] % 5 == 4);
      break;
  }
  return 0;
}
