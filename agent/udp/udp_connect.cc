#include "agent/udp/udp_connect.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "agent/udp/gates.h"

namespace oakum::agent {

std::shared_ptr<Gates> GatesOf(SessionCore& session) {
  const auto& parts = session.container();
  auto gates = parts->carried()->gates();
  if (gates == nullptr) {
    gates = Gates::Create(parts->carried(), parts->datagrams);
    gates = gates != nullptr ? parts->carried()->SetGates(std::move(gates)) : nullptr;
  }
  return gates;
}

namespace {

// 0 or an errno value.
int Lead(const CallContext& context, const GuardedCall& call, const DatagramRoute& route,
         SockaddrCopy& address) {
  const auto gates = GatesOf(context.core);
  if (gates == nullptr) {
    return EACCES;
  }
  if (Names::IsSynthetic(route.destination.ip) && route.judged.names.empty() &&
      route.judged.decision.carry == policy::Carry::kProxy) {
    return EHOSTUNREACH;  // an address that stands for no name any more
  }
  return gates->Lead(context, call, route, address);
}

bool IsCarriedTransport(const PinnedSocket& socket) {
  return socket.transport() == policy::Transport::kUdp;
}

}  // namespace

Outcome ConnectDatagrams(const CallContext& context, const GuardedCall& call,
                         CarriedConnect connect) {
  if (!IsCarriedTransport(connect.socket)) {
    return Outcome::Of(Answer::Error(EACCES));
  }
  SockaddrCopy address;
  const policy::Endpoint& asked_for = connect.destination.endpoint;
  if (const int error =
          Lead(context, call, {connect.socket, asked_for, connect.judged, true}, address);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  const int fd = connect.socket.fd.get();
  const int error = ::connect(fd, address.get(), address.length) == 0 ? 0 : errno;
  if (error == 0) {
    context.carried()->LeadsTo(SocketCookie(fd), asked_for);
  }
  return Outcome::Of(Answer::Performed(0, error), std::move(connect.socket.fd));
}

int LeadMessage(const CallContext& context, const GuardedCall& call, const PinnedSocket& socket,
                const policy::Endpoint& destination, const Judged& judged, SockaddrCopy& address) {
  if (!IsCarriedTransport(socket)) {
    return EACCES;
  }
  if (destination.port == 0) {
    return EINVAL;  // udp_sendmsg()
  }
  if (judged.decision.carry == policy::Carry::kProxy &&
      CarriesNoDatagrams(context.carried()->carrier().upstreams(), *judged.decision.proxy)) {
    Judged denied = judged;
    denied.decision.verdict = policy::Verdict::kDeny;
    denied.decision.carry = policy::Carry::kDirect;
    (void)context.core.Judge(
        call, {policy::Operation::kSend, policy::Transport::kUdp, destination, {}, denied.names},
        denied, kNoDatagrams);
    return EACCES;
  }
  return Lead(context, call, {socket, destination, judged, false}, address);
}

}  // namespace oakum::agent
