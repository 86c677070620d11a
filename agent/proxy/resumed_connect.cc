#include "agent/proxy/resumed_connect.h"

#include <netinet/tcp.h>

#include <memory>
#include <utility>

#include "agent/proxy/connect_attempt.h"
#include "agent/proxy/tcp_socket.h"

namespace oakum::agent {

namespace {

class Resumption : public ConnectAttempt {
 public:
  using ConnectAttempt::ConnectAttempt;

  // From where the container's socket waits for `held`.
  bool GoOn(HeldSocket held, const std::string& name) {
    if (blocking_ || carry() != policy::Carry::kProxy ||
        TcpState(connect_.socket.fd.get()) != TCP_SYN_SENT || IsNameless()) {
      return false;
    }
    credentials_ = Isolate();
    std::shared_ptr<UniqueFd> net;
    Worker* worker = nullptr;
    if (GetReady(net, worker)) {
      return false;
    }
    auto pending = carried_->pending().Add(cookie_, held.AddressFor(connect_.socket.domain));
    if (pending == nullptr) {
      return false;
    }
    KeptRelays& all = carrier().kept_relays();
    all.TakeUp(name, context_.core.weak_from_this(), {held.fd(), held.listener_fd(), -1, -1});
    KeptConnection kept(all, name, carried_->TakeKeptSlot().value_or(RelaySlot()));
    HeldConnection::Starter starter(*worker, Request(net));
    Start(starter, std::move(pending), std::move(held), std::move(kept));
    return true;
  }
};

}  // namespace

bool GoOnHolding(SessionCore& core, const HeldIdentity& identity, const std::string& name,
                 HeldSocket held) {
  DescriptorSource descriptors;
  const auto source = core.source();
  const CallContext context{core, descriptors, *source, nullptr};
  GuardedCall call;
  call.notification.tid = identity.tgid;
  call.kind.name = "connect";
  call.source = source;
  CarriedConnect connect;
  connect.number = identity.number;
  connect.destination.kind = Destination::Kind::kInet;
  connect.destination.endpoint = identity.asked;
  if (Pin(context, identity.tgid, identity.number, connect.socket) != 0 ||
      SocketCookie(connect.socket.fd.get()) != identity.client) {
    return false;
  }
  // The call was not over, and has begun anew (SettleCarried(), agent/session/recovery.cc): then it
  // is kept by the same name.
  if (!context.carried()->peers().Find(identity.client) ||
      context.carried()->pending().Find(identity.client) != nullptr) {
    return true;
  }
  connect.address = WriteEndpoint(identity.asked, connect.socket.domain);
  auto names = context.carried()->names().Of(policy::CanonicalDestination(identity.asked.ip));
  connect.judged = core.Decide(
      call, policy::InetRequest{
                policy::Operation::kConnect, policy::Transport::kTcp, identity.asked, {}, names});
  connect.judged.names = std::move(names);
  connect.judged.policy = source->policy;
  return connect.judged.decision.proxy != nullptr &&
         Resumption(context, call, std::move(connect)).GoOn(std::move(held), name);
}

}  // namespace oakum::agent
