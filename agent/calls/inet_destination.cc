#include "agent/calls/inet_destination.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace oakum::agent {

namespace {

// The loopback interface of every network namespace (LOOPBACK_IFINDEX, include/net/flow.h).
constexpr int kLoopbackIndex = 1;

const policy::IpAddress kWildcardV4 = policy::IpAddress::FromV4({0, 0, 0, 0});
const policy::IpAddress kLoopbackV4 = policy::IpAddress::FromV4({127, 0, 0, 1});

policy::IpAddress LocalAddress(int socket_fd) {
  SockaddrCopy address;
  address.length = sizeof address.storage;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return {};
  }
  return ReadEndpoint(address).ip;
}

// SO_BINDTOIFINDEX is Linux 5.1, younger than the pidfd_getfd(2) that pinned the socket.
bool IsBoundToInterface(int socket_fd) {
  int index = 0;
  socklen_t length = sizeof index;
  return getsockopt(socket_fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &length) != 0 ||
         (index != 0 && index != kLoopbackIndex);
}

// Whether loopback may leave the machine on that socket. What binds an IPv4 one to an interface is
// an option that policies decide on; while they refuse it to everybody, a socket that is not bound
// stays so (bind(2) to a link-local address does it to an IPv6 one).
bool MayLeaveLoopback(const CallContext& context, const PinnedSocket& socket) {
  const uint64_t without =
      socket.domain == AF_INET && socket.cookie != 0 ? context.core.binding().Without() : 0;
  SocketKinds& kinds = context.descriptors.kinds();
  if (without != 0 && kinds.IsUnbound(socket.cookie, without)) {
    return false;
  }
  const bool bound = IsBoundToInterface(socket.fd.get());
  if (without != 0 && !bound) {
    kinds.NoteUnbound(socket.cookie, without);
  }
  return bound;
}

// Writes an IPv4 address over the one in a sockaddr_in, or over the mapped one in a sockaddr_in6.
void Overwrite(SockaddrCopy& address, const policy::IpAddress& ip) {
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in in = {};
    memcpy(&in, &address.storage, sizeof in);
    memcpy(&in.sin_addr, ip.bytes().data() + 12, sizeof in.sin_addr);
    memcpy(&address.storage, &in, sizeof in);
  } else {
    sockaddr_in6 in6 = {};
    memcpy(&in6, &address.storage, sizeof in6);
    memcpy(&in6.sin6_addr, ip.bytes().data(), sizeof in6.sin6_addr);
    memcpy(&address.storage, &in6, sizeof in6);
  }
}

// What the container was told the address for, where that may matter.
std::vector<std::string> NamesOf(const CallContext& context, const policy::IpAddress& ip) {
  const policy::Policy* policy = context.policy();
  const bool matters = (context.known == nullptr || !context.known->lasts()) && policy != nullptr &&
                       (policy->carries() || policy->names_domains());
  return matters ? context.carried()->names().Of(policy::CanonicalDestination(ip))
                 : std::vector<std::string>();
}

// SessionCore::Decide(), or what it has said before where it would say the same.
Judged Decide(const CallContext& context, const GuardedCall& call,
              const policy::InetRequest& request) {
  if (context.known == nullptr || !context.known->lasts()) {
    return context.core.Decide(call, request);
  }
  if (const policy::Decision* known = context.known->Find(request); known != nullptr) {
    Judged judged;
    judged.decision = *known;
    return judged;
  }
  Judged judged = context.core.Decide(call, request);
  context.known->Keep(request, judged.decision);
  return judged;
}

}  // namespace

// inet_send_prepare() (net/ipv4/af_inet.c) takes the port before the protocol looks at the address,
// which no protocol has use for.
void TakePort(const PinnedSocket& socket) {
  sockaddr_in6 nowhere = {};
  nowhere.sin6_family = AF_MAX;
  (void)sendto(socket.fd.get(), nullptr, 0, MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&nowhere), sizeof nowhere);
}

bool IsLoopback(const policy::IpAddress& ip) {
  if (ip.IsV4()) {
    return ip.bytes()[12] == 127 || ip == kWildcardV4;
  }
  const policy::IpAddress reached = policy::CanonicalDestination(ip);
  return reached.IsV4() ? reached.bytes()[12] == 127
                        : reached == policy::CanonicalDestination(policy::IpAddress());
}

bool DeniesByDefault(const CallContext& context) {
  return context.policy() == nullptr || context.policy()->denies_by_default();
}

Ruling JudgeInet(const CallContext& context, const GuardedCall& call, policy::Operation operation,
                 const PinnedSocket& socket, SockaddrCopy& address, Destination& destination,
                 Judged& judged) {
  bool unclear = false;
  if (destination.endpoint.ip == kWildcardV4) {
    const policy::IpAddress own = LocalAddress(socket.fd.get());
    const bool has_own = own.IsV4() && own != kWildcardV4;
    // Bound to an interface only, it is that one's first address, which nobody promises to keep.
    unclear = !has_own && IsBoundToInterface(socket.fd.get());
    destination.endpoint.ip = has_own ? own : kLoopbackV4;
    Overwrite(address, destination.endpoint.ip);
  }
  std::vector<std::string> names = NamesOf(context, destination.endpoint.ip);
  const policy::InetRequest request{operation, socket.transport(), destination.endpoint, {}, names};
  judged = Decide(context, call, request);
  if (judged.decision.carry != policy::Carry::kDirect && !context.Audits() &&
      IsBoundToInterface(socket.fd.get())) {
    return context.core.JudgeUnsupported(call, operation,
                                         "to be carried on a socket of one network interface");
  }
  const Ruling ruling = context.core.Judge(call, request, judged);
  if (ruling != Ruling::kPerform) {
    if (judged.source == nullptr) {
      judged.source = call.source;
    }
    judged.policy = judged.source->policy;
    judged.names = std::move(names);
    return ruling;
  }
  const bool kept = IsLoopback(destination.endpoint.ip) && DeniesByDefault(context);
  if (kept && operation == policy::Operation::kConnect && socket.domain == AF_INET6 &&
      !socket.is_stream()) {
    TakePort(socket);
  }
  if (unclear || (kept && MayLeaveLoopback(context, socket))) {
    return context.core.JudgeUnsupported(call, operation,
                                         "loopback through another network interface");
  }
  return ruling;
}

std::optional<AllowedSend> AllowsAsItIs(const CallContext& context, const GuardedCall& call,
                                        const PinnedSocket& socket, const Destination& destination,
                                        std::optional<bool>& bound) {
  const policy::Endpoint& to = destination.endpoint;
  if (destination.kind != Destination::Kind::kInet || context.Audits() || to.ip == kWildcardV4 ||
      NeedsLoopbackPin(context, socket, destination)) {
    return std::nullopt;
  }
  if (IsLoopback(to.ip) && DeniesByDefault(context)) {
    if (!bound) {
      bound = MayLeaveLoopback(context, socket);
    }
    if (*bound) {
      return std::nullopt;
    }
  }
  std::vector<std::string> names = NamesOf(context, to.ip);
  AllowedSend allowed = {.request = {policy::Operation::kSend, socket.transport(), to, {}, names},
                         .judged = {}};
  allowed.judged = Decide(context, call, allowed.request);
  if (allowed.judged.decision.verdict != policy::Verdict::kAllow ||
      allowed.judged.decision.carry != policy::Carry::kDirect) {
    return std::nullopt;
  }
  allowed.judged.names = std::move(names);  // where they were, which the request knows
  return allowed;
}

bool NeedsLoopbackPin(const CallContext& context, const PinnedSocket& socket,
                      const Destination& destination) {
  return destination.kind == Destination::Kind::kInet && socket.domain == AF_INET6 &&
         !socket.is_stream() && !destination.endpoint.ip.IsV4() &&
         IsLoopback(destination.endpoint.ip) && DeniesByDefault(context);
}

}  // namespace oakum::agent
