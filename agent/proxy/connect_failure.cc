#include "agent/proxy/connect_failure.h"

#include <linux/capability.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include "agent/caller/identity.h"
#include "agent/caller/netns.h"
#include "agent/caller/task.h"
#include "agent/proxy/tcp_socket.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

namespace {

constexpr uint64_t kInject =
    CapabilityBit(CAP_NET_RAW) | CapabilityBit(CAP_NET_ADMIN) | kPerformerCapabilities;

bool IsOpening(int socket_fd) { return TcpState(socket_fd) == TCP_SYN_SENT; }

// The next sequence number that the socket sends: the one after its SYN's (tcp(7), TCP_REPAIR).
std::optional<uint32_t> NextSequence(int socket_fd) {
  const int on = TCP_REPAIR_ON;
  const int off = TCP_REPAIR_OFF_NO_WP;
  const int queue = TCP_SEND_QUEUE;
  uint32_t sequence = 0;
  socklen_t length = sizeof sequence;
  const ScopedCapabilities raised(kInject, kPerformerCapabilities);
  if (setsockopt(socket_fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) != 0) {
    return std::nullopt;
  }
  const bool read =
      setsockopt(socket_fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue) == 0 &&
      getsockopt(socket_fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, &length) == 0;
  (void)setsockopt(socket_fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off);
  return read ? std::optional(sequence) : std::nullopt;
}

// RFC 1071, over bytes in network order; the result too.
uint16_t Checksum(const std::string& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += uint32_t{static_cast<uint8_t>(bytes[i])} << (i % 2 == 0 ? 8 : 0);
  }
  while (sum >> 16 != 0) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return htons(static_cast<uint16_t>(~sum));
}

void Append(std::string& out, const void* data, size_t size) {
  out.append(static_cast<const char*>(data), size);
}

// The two ends, the container's socket first.
struct Ends {
  bool v4 = true;
  std::array<uint8_t, 16> ip[2];  // of IPv4 the first four bytes
  uint16_t port[2] = {0, 0};      // network byte order
  [[nodiscard]] size_t ip_size() const { return v4 ? 4 : 16; }
};

void ReadEnd(const SockaddrCopy& address, std::array<uint8_t, 16>& ip, uint16_t& port) {
  ip = {};
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in in = {};
    memcpy(&in, &address.storage, sizeof in);
    memcpy(ip.data(), &in.sin_addr, sizeof in.sin_addr);
    port = in.sin_port;
  } else {
    sockaddr_in6 in6 = {};
    memcpy(&in6, &address.storage, sizeof in6);
    memcpy(ip.data(), &in6.sin6_addr, ip.size());
    port = in6.sin6_port;
  }
}

struct Packet {
  int protocol = 0;
  std::string bytes;
};

// RFC 9293 section 3.10.7.3: in SYN-SENT a RST counts if it acknowledges the SYN.
Packet Reset(const Ends& ends, uint32_t next) {
  tcphdr header = {};
  header.source = ends.port[1];
  header.dest = ends.port[0];
  header.ack_seq = htonl(next);
  header.doff = sizeof header / 4;
  header.rst = 1;
  header.ack = 1;
  std::string summed;
  Append(summed, ends.ip[1].data(), ends.ip_size());
  Append(summed, ends.ip[0].data(), ends.ip_size());
  const std::array<uint8_t, 4> tail = {0, IPPROTO_TCP, 0, sizeof header};  // both pseudo headers'
  Append(summed, tail.data(), tail.size());
  Append(summed, &header, sizeof header);
  header.check = Checksum(summed);
  Packet packet{IPPROTO_TCP, {}};
  Append(packet.bytes, &header, sizeof header);
  return packet;
}

// The part of the SYN that an ICMP message brings back: its ports and its sequence number.
void AppendSyn(std::string& out, const Ends& ends, uint32_t next) {
  Append(out, &ends.port[0], sizeof ends.port[0]);
  Append(out, &ends.port[1], sizeof ends.port[1]);
  const uint32_t sequence = htonl(next - 1);
  Append(out, &sequence, sizeof sequence);
}

// A parameter problem is EPROTO (tcp_v4_err(), net/ipv4/tcp_ipv4.c).
Packet Unreachable4(const Ends& ends, uint32_t next, int error) {
  icmphdr icmp = {};
  icmp.type = error == EPROTO ? ICMP_PARAMETERPROB : ICMP_DEST_UNREACH;
  icmp.code = error == EPROTO ? 0 : error == ENETUNREACH ? ICMP_NET_UNREACH : ICMP_HOST_UNREACH;
  iphdr ip = {};
  ip.version = 4;
  ip.ihl = sizeof ip / 4;
  ip.tot_len = htons(sizeof ip + sizeof(tcphdr));
  ip.ttl = 64;
  ip.protocol = IPPROTO_TCP;
  memcpy(&ip.saddr, ends.ip[0].data(), sizeof ip.saddr);
  memcpy(&ip.daddr, ends.ip[1].data(), sizeof ip.daddr);
  std::string rest;
  Append(rest, &ip, sizeof ip);
  AppendSyn(rest, ends, next);
  std::string summed;
  Append(summed, &icmp, sizeof icmp);
  Append(summed, rest.data(), rest.size());
  icmp.checksum = Checksum(summed);
  Packet packet{IPPROTO_ICMP, {}};
  Append(packet.bytes, &icmp, sizeof icmp);
  Append(packet.bytes, rest.data(), rest.size());
  return packet;
}

// The kernel fills in the checksum (RFC 3542 section 3.1). EACCES is what ADM_PROHIBITED means, and
// EPROTO a parameter problem (icmpv6_err_convert(), net/ipv6/icmp.c).
Packet Unreachable6(const Ends& ends, uint32_t next, int error) {
  icmp6_hdr icmp = {};
  icmp.icmp6_type = error == EPROTO ? ICMP6_PARAM_PROB : ICMP6_DST_UNREACH;
  icmp.icmp6_code = error == EPROTO        ? ICMP6_PARAMPROB_HEADER
                    : error == ENETUNREACH ? ICMP6_DST_UNREACH_NOROUTE
                    : error == EACCES      ? ICMP6_DST_UNREACH_ADMIN
                                           : ICMP6_DST_UNREACH_ADDR;
  ip6_hdr ip = {};
  ip.ip6_flow = htonl(6U << 28);
  ip.ip6_plen = htons(sizeof(tcphdr));
  ip.ip6_nxt = IPPROTO_TCP;
  ip.ip6_hlim = 64;
  memcpy(&ip.ip6_src, ends.ip[0].data(), sizeof ip.ip6_src);
  memcpy(&ip.ip6_dst, ends.ip[1].data(), sizeof ip.ip6_dst);
  Packet packet{IPPROTO_ICMPV6, {}};
  Append(packet.bytes, &icmp, sizeof icmp);
  Append(packet.bytes, &ip, sizeof ip);
  AppendSyn(packet.bytes, ends, next);
  // What a length of its own wants is there: as much as a TCP header.
  packet.bytes.resize(packet.bytes.size() + sizeof(tcphdr) - 8);
  return packet;
}

void Send(const SockaddrCopy& from, const SockaddrCopy& to, const Packet& packet) {
  const ScopedCapabilities raised(kInject, kPerformerCapabilities);
  const UniqueFd raw(
      socket(from.storage.ss_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, packet.protocol));
  const auto without_port = [](SockaddrCopy address) {
    if (address.storage.ss_family == AF_INET6) {
      sockaddr_in6 in6 = {};
      memcpy(&in6, &address.storage, sizeof in6);
      in6.sin6_port = 0;
      memcpy(&address.storage, &in6, sizeof in6);
    }
    return address;
  };
  const SockaddrCopy source = without_port(from);
  const SockaddrCopy destination = without_port(to);
  if (raw && bind(raw.get(), source.get(), source.length) == 0) {
    (void)sendto(raw.get(), packet.bytes.data(), packet.bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                 destination.get(), destination.length);
  }
}

}  // namespace

void FailConnect(const HeldClient& client, const HeldSocket& held, int error, uint64_t own_netns) {
  // Found again by its owner's number for it, and known by its cookie.
  UniqueFd socket;
  DescriptorSource descriptors;
  if (client.tgid <= 0 || descriptors.Get(client.tgid, client.number, socket) != 0 ||
      SocketCookie(socket.get()) != client.cookie || !IsOpening(socket.get())) {
    return;
  }
  // ECONNRESET is what connect(2) with AF_UNSPEC leaves behind.
  if (const auto next = error == ECONNRESET ? std::nullopt : NextSequence(socket.get()); next) {
    const SockaddrCopy peer = held.AddressFor(held.domain());
    Ends ends;
    ends.v4 = held.domain() == AF_INET;
    ReadEnd(client.address, ends.ip[0], ends.port[0]);
    ReadEnd(peer, ends.ip[1], ends.port[1]);
    const Packet packet = error == ECONNREFUSED ? Reset(ends, *next)
                          : ends.v4             ? Unreachable4(ends, *next, error)
                                                : Unreachable6(ends, *next, error);
    if (const auto net = NetworkOf(socket.get(), own_netns); net) {
      (void)WithNetwork(net->get(), [&] { Send(peer, client.address, packet); });
    }
  }
  if (IsOpening(socket.get())) {
    sockaddr unspecified = {};
    unspecified.sa_family = AF_UNSPEC;
    (void)connect(socket.get(), &unspecified, sizeof unspecified);
  }
}

}  // namespace oakum::agent
