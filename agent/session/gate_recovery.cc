#include "agent/session/gate_recovery.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "agent/caller/socket_kinds.h"
#include "agent/proxy/kept_connection.h"
#include "agent/udp/gates.h"
#include "agent/udp/udp_connect.h"

namespace oakum::agent {

namespace {

// As if a socket connected there now; nothing when what is there is not what it would be led to.
std::optional<Judged> Decide(const SessionCore& session, const GateIdentity& identity) {
  GuardedCall call;
  call.source = session.source();
  auto names = session.container()->carried()->names().Of(
      policy::CanonicalDestination(identity.destination.ip));
  Judged judged = session.Decide(
      call,
      policy::InetRequest{
          policy::Operation::kConnect, policy::Transport::kUdp, identity.destination, {}, names});
  judged.names = std::move(names);
  judged.policy = call.source->policy;
  const bool same = identity.resolver ? judged.decision.carry == policy::Carry::kResolver
                                      : judged.decision.carry == policy::Carry::kProxy &&
                                            judged.decision.proxy != nullptr;
  return judged.policy != nullptr && same ? std::optional(std::move(judged)) : std::nullopt;
}

}  // namespace

KeptGates::KeptGates(std::vector<KeptItem>& items) {
  for (KeptItem& item : items) {
    const auto identity = DecodeGateName(item.name);
    if (!identity) {
      continue;
    }
    One one{std::move(item.name), *identity, {}};
    for (UniqueFd& fd : item.fds) {
      if (SocketCookie(fd.get()) == identity->gate) {
        one.fd = std::move(fd);
      }
    }
    of_session_[identity->session].push_back(std::move(one));
    item = KeptItem();
  }
}

void KeptGates::TakeUp(SessionCore& session, Carrier& carrier) {
  auto node = of_session_.extract(SessionOfName(session.kept_name()));
  if (!node) {
    return;
  }
  KeptRelays& all = carrier.kept_relays();
  const auto gates = GatesOf(session);
  if (gates != nullptr) {
    gates->KnowAgain(session.shared_from_this());
  }
  for (One& one : node.mapped()) {
    const auto judged = one.fd ? Decide(session, one.identity) : std::nullopt;
    auto slot = session.container()->carried()->TakeKeptSlot();
    if (gates == nullptr || !judged || !slot) {
      all.Forget(one.name);
      continue;
    }
    all.TakeUp(one.name, session.weak_from_this(), {one.fd.get(), -1, -1, -1});
    (void)gates->TakeUp(std::move(one.fd), one.identity, *judged,
                        KeptConnection(all, one.name, std::move(*slot)));
  }
}

void KeptGates::ForgetRest(KeptRelays& kept) const {
  for (const auto& [session, some] : of_session_) {
    for (const One& one : some) {
      kept.Forget(one.name);
    }
  }
}

}  // namespace oakum::agent
