// setsockopt(2): options that put an address on the wire which no sockaddr names, that send packets
// by themselves, or that take loopback off the machine.
#include <fmt/format.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "agent/calls/calls.h"
#include "agent/calls/inet_destination.h"

namespace oakum::agent {

namespace {

enum class OptionKind : uint8_t {
  kPlain,   // changes only how this host treats the socket
  kRoutes,  // source routes, extension headers, tunnels, rewriting of packets: never
  kDevice,  // which interface packets leave by: loopback would not stay loopback
  kJoins,   // multicast membership: IGMP and MLD reports go out, as to their own addresses
};

constexpr int kIpv6Pktoptions2292 = 6;  // IPV6_2292PKTOPTIONS: control messages, a route among them

// From here on options of the IP level are iptables', arptables', ebtables', IPVS's and multicast
// routing's, on any socket (nf_setsockopt(); linux/netfilter_ipv4/ip_tables.h, linux/mroute.h), and
// some of IPv6's (linux/netfilter_ipv6/ip6_tables.h, linux/mroute6.h).
constexpr int kNetfilterFrom = 64;
constexpr int kIp6tablesLast = 65;
constexpr int kMroute6From = 200;

OptionKind Classify(int level, int name, uint32_t length) {
  if (level == SOL_SOCKET) {
    return name == SO_BINDTODEVICE || name == SO_BINDTOIFINDEX ? OptionKind::kDevice
                                                               : OptionKind::kPlain;
  }
  if (level == IPPROTO_IP) {
    if (name >= kNetfilterFrom) {
      return OptionKind::kRoutes;
    }
    switch (name) {
      case IP_OPTIONS:
      case IP_IPSEC_POLICY:
      case IP_XFRM_POLICY:
        return OptionKind::kRoutes;
      case IP_ADD_MEMBERSHIP:
      case IP_ADD_SOURCE_MEMBERSHIP:
      case IP_BLOCK_SOURCE:
      case IP_UNBLOCK_SOURCE:
      case IP_MSFILTER:
      case MCAST_JOIN_GROUP:
      case MCAST_JOIN_SOURCE_GROUP:
      case MCAST_BLOCK_SOURCE:
      case MCAST_UNBLOCK_SOURCE:
      case MCAST_MSFILTER:
        return OptionKind::kJoins;
      case IP_UNICAST_IF:
        return OptionKind::kDevice;
      default:
        return OptionKind::kPlain;
    }
  }
  if (level == IPPROTO_IPV6) {
    if ((name >= kNetfilterFrom && name <= kIp6tablesLast) || name >= kMroute6From) {
      return OptionKind::kRoutes;
    }
    switch (name) {
      case IPV6_FLOWLABEL_MGR:
        // What follows the request is control messages that go out with each packet of the label.
        return length > sizeof(in6_flowlabel_req) ? OptionKind::kRoutes : OptionKind::kPlain;
      case IPV6_IPSEC_POLICY:
      case IPV6_XFRM_POLICY:
      case kIpv6Pktoptions2292:
      case IPV6_RTHDR:
      case IPV6_HOPOPTS:
      case IPV6_RTHDRDSTOPTS:
      case IPV6_DSTOPTS:
        return OptionKind::kRoutes;
      case IPV6_ADD_MEMBERSHIP:
      case IPV6_JOIN_ANYCAST:
      case MCAST_JOIN_GROUP:
      case MCAST_JOIN_SOURCE_GROUP:
      case MCAST_BLOCK_SOURCE:
      case MCAST_UNBLOCK_SOURCE:
      case MCAST_MSFILTER:
        return OptionKind::kJoins;
      case IPV6_PKTINFO:
      case IPV6_UNICAST_IF:
        return OptionKind::kDevice;
      default:
        return OptionKind::kPlain;
    }
  }
  // SCTP connects through an option (SCTP_SOCKOPT_CONNECTX); its sockets are refused, these as
  // well.
  return level == IPPROTO_SCTP ? OptionKind::kRoutes : OptionKind::kPlain;
}

// Where membership reports go: 224.0.0.22 (RFC 3376) and ff02::16 (RFC 3810).
policy::Endpoint ReportsGoTo(int level) {
  return {*policy::IpAddress::Parse(level == IPPROTO_IP ? "224.0.0.22" : "ff02::16"), 0};
}

Ruling Judge(const CallContext& context, const GuardedCall& call, Arguments args) {
  const int level = static_cast<int>(args[1]);
  const int name = static_cast<int>(args[2]);
  const Ruling pass = context.Audits() ? Ruling::kPass : Ruling::kPerform;
  switch (Classify(level, name, static_cast<uint32_t>(args[4]))) {
    case OptionKind::kPlain:
      return pass;
    case OptionKind::kDevice:
      if (!DeniesByDefault(context)) {
        return pass;
      }
      [[fallthrough]];
    case OptionKind::kRoutes:
      return context.core.JudgeUnsupported(
          call, policy::Operation::kSocket,
          fmt::format("socket option {} of level {}", name, level));
    case OptionKind::kJoins:
      return context.core.Judge(
          call, {policy::Operation::kSend, policy::Transport::kOther, ReportsGoTo(level), {}});
  }
  return Ruling::kRefuse;
}

// A 32-bit program's timeval is half as long (SO_RCVTIMEO, SO_SNDTIMEO: socket(7)).
void WidenTimeout(int level, int name, std::vector<char>& value) {
  if (level != SOL_SOCKET || (name != SO_RCVTIMEO && name != SO_SNDTIMEO) ||
      value.size() != 2 * sizeof(int32_t)) {
    return;
  }
  std::array<int32_t, 2> narrow{};
  memcpy(narrow.data(), value.data(), sizeof narrow);
  const timeval wide = {narrow[0], narrow[1]};
  value.resize(sizeof wide);
  memcpy(value.data(), &wide, sizeof wide);
}

// Values that hold pointers, which would mean the agent's memory here.
bool HoldsPointer(int level, int name) {
  return level == SOL_SOCKET && (name == SO_ATTACH_FILTER || name == SO_ATTACH_REUSEPORT_CBPF);
}

}  // namespace

Outcome HandleSetsockopt(const CallContext& context, const GuardedCall& call, Arguments args) {
  // Level and name are registers, so what they allow the kernel may carry out.
  const Ruling ruling = Judge(context, call, args);
  return Outcome::Of(ruling == Ruling::kRefuse ? Answer::Error(EPERM) : Answer::Continue());
}

Outcome PerformSetsockopt(const CallContext& context, const GuardedCall& call, Arguments args) {
  constexpr size_t kMaxValue = 4096;
  const int level = static_cast<int>(args[1]);
  const int name = static_cast<int>(args[2]);
  const Ruling ruling = Judge(context, call, args);
  if (ruling != Ruling::kPerform) {
    return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(EPERM));
  }
  PinnedSocket socket;
  const pid_t tid = call.notification.tid;
  if (const int error = Pin(context, tid, static_cast<int>(args[0]), socket); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  const auto length = static_cast<int32_t>(args[4]);
  if (length < 0) {
    return Outcome::Of(Answer::Error(EINVAL));
  }
  if (HoldsPointer(level, name)) {
    return Outcome::Of(Answer::Error(EPERM));
  }
  std::vector<char> value(std::min(static_cast<size_t>(length), kMaxValue));
  if (ReadMemory(tid, args[3], value.data(), value.size()) != value.size()) {
    return Outcome::Of(Answer::Error(EFAULT));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  WidenTimeout(level, name, value);
  const int error = setsockopt(socket.fd.get(), level, name, value.data(),
                               static_cast<socklen_t>(value.size())) == 0
                        ? 0
                        : errno;
  return Outcome::Of(Answer::Performed(0, error), std::move(socket.fd));
}

}  // namespace oakum::agent
