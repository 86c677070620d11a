#include "agent/proxy/carried_connect.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "agent/caller/netns.h"
#include "agent/proxy/carried_operation.h"
#include "agent/proxy/connect_attempt.h"
#include "agent/proxy/tcp_socket.h"
#include "agent/udp/udp_connect.h"

namespace oakum::agent {

namespace {

bool IsUnicast(const policy::IpAddress& ip) {
  const auto& bytes = ip.bytes();
  if (!ip.IsV4()) {
    return bytes[0] != 0xff;
  }
  const bool multicast = (bytes[12] & 0xf0) == 0xe0;
  return !multicast && ip != policy::IpAddress::FromV4({255, 255, 255, 255});
}

bool IsV6Only(int socket_fd) {
  int only = 1;
  socklen_t length = sizeof only;
  return getsockopt(socket_fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &length) != 0 || only != 0;
}

// Where the agent's end is to be, seen from a socket that asked for that destination. Where the
// network namespace has no ::1, an IPv6 socket is connected by way of IPv4.
Expected<HeldSocket> Hold(const CallContext& context, Carrier& carrier, const PinnedSocket& socket,
                          uint64_t netns, const Destination& destination, int net_fd) {
  const bool v6 = socket.domain == AF_INET6 && !destination.endpoint.ip.IsV4();
  if (context.spare != nullptr) {
    if (auto spare = context.spare->Take(netns, v6 ? AF_INET6 : AF_INET, net_fd); spare) {
      return std::move(*spare);
    }
  }
  std::optional<Expected<HeldSocket>> held;
  const auto entered = WithNetwork(net_fd, [&] {
    held.emplace(HeldSocket::Create(v6 ? AF_INET6 : AF_INET, carrier.own_ports()));
    if (!*held && v6 && !IsV6Only(socket.fd.get())) {
      held.emplace(HeldSocket::Create(AF_INET, carrier.own_ports()));
    }
  });
  if (!entered) {
    return std::unexpected(entered.error());
  }
  return std::move(*held);
}

// One connect(2), as far as a session's thread takes it.
class Attempt : public ConnectAttempt {
 public:
  using ConnectAttempt::ConnectAttempt;

  Outcome Run() {
    if (connect_.address.storage.ss_family != connect_.socket.domain) {
      return Outcome::Of(Answer::Error(EAFNOSUPPORT));
    }
    if (!IsUnicast(connect_.destination.endpoint.ip)) {
      return Outcome::Of(Answer::Error(ENETUNREACH));
    }
    if (auto outcome = Join(); outcome) {
      return std::move(*outcome);
    }
    if (carry() == policy::Carry::kProxy && IsNameless()) {
      Report().Failed({EHOSTUNREACH, "an address that stands for no name any more", true});
      return Outcome::Of(Answer::Error(EHOSTUNREACH));
    }
    if (carry() == policy::Carry::kProxy) {
      credentials_ = Isolate();
      if (auto outcome = Direct(); outcome) {
        return std::move(*outcome);
      }
    }
    if (carrier().direct().Busy(connect_.socket.fd.get())) {
      return Outcome::Of(Answer::Error(EALREADY));
    }
    return Hold();
  }

 private:
  // A connection of that socket may be under way: the socket itself says so (SYN_SENT).
  std::optional<Outcome> Join() {
    auto pending = carried_->pending().Find(cookie_);
    if (pending == nullptr || TcpState(connect_.socket.fd.get()) != TCP_SYN_SENT) {
      return std::nullopt;
    }
    if (!blocking_) {
      return Outcome::Of(Answer::Error(EALREADY));
    }
    return Outcome::Of(
        std::make_unique<CarriedOperation>(std::move(connect_.socket.fd), std::move(pending)));
  }

  // The container's own socket, connected to the proxy: nothing where it has to be a relay.
  std::optional<Outcome> Direct() {
    if (!blocking_ || context_.uring == nullptr || connect_.judged.policy->handshake() != nullptr ||
        connect_.socket.protocol != IPPROTO_TCP || !CanConnectDirectly(proxy(), IsInOwnNetwork()) ||
        !MaySpeakToProxy()) {
      return std::nullopt;
    }
    DirectRequest request;
    request.owner = carried_.get();
    request.keep = connect_.judged.policy;
    request.proxy = &proxy();
    request.target = Target();
    request.credentials = credentials_;
    request.ended =
        [carried = carried_, cookie = cookie_, report = Report(),
         asked = connect_.destination.endpoint](const std::optional<ProxyFailure>& failure) {
          if (failure) {
            report.Failed(*failure);
          } else {
            carried->LeadsTo(cookie, asked);
          }
        };
    DirectStart start = carrier().direct().Begin(
        std::move(connect_.socket.fd), connect_.socket.domain, std::move(request), *context_.uring);
    if (start.fallback) {
      connect_.socket.fd = std::move(start.socket);
      has_route_ = false;
      return std::nullopt;
    }
    if (start.error) {
      return Outcome::Of(Answer::Performed(0, *start.error));
    }
    return Outcome::Of(std::move(start.operation));
  }

  // Whether the policy lets the container speak to the proxy itself, as its other threads can while
  // the handshake is spoken on its socket. It need not: a proxy of a single rule ("via") is not the
  // policy's own, and a rule can deny that one too.
  [[nodiscard]] bool MaySpeakToProxy() const {
    return std::ranges::all_of(proxy().urls, [&](const policy::ProxyUrl& url) {
      const policy::InetRequest request = {.operation = policy::Operation::kConnect,
                                           .transport = policy::Transport::kTcp,
                                           .remote = *url.endpoint,
                                           .local = {}};
      const policy::Decision decision = connect_.judged.policy->Decide(request);
      return decision.verdict == policy::Verdict::kAllow &&
             decision.carry == policy::Carry::kDirect;
    });
  }

  Outcome Hold() {
    std::shared_ptr<UniqueFd> shared_net;
    Worker* worker = nullptr;
    if (auto failed = GetReady(shared_net, worker); failed) {
      return std::move(*failed);
    }
    std::optional<HeldConnection::Starter> starter;
    if (MayBeginEarly(*worker)) {
      starter.emplace(*worker, Request(shared_net));
    }
    auto held = WhileShort([&] {
      return oakum::agent::Hold(context_, carrier(), connect_.socket, netns_, connect_.destination,
                                shared_net->get());
    });
    if (!held) {
      return Unreachable(held.error());
    }
    // Before the program hears of it: from then on it goes on, whatever becomes of this agent.
    KeptConnection kept;
    if (!blocking_ && carry() == policy::Carry::kProxy && carrier().kept_relays().KeepsAtOnce()) {
      (void)KeepHeld(kept, *carried_, context_.core.weak_from_this(), *held,
                     {.tgid = tgid_, .number = connect_.number, .cookie = cookie_, .address = {}},
                     connect_.destination.endpoint);
    }
    const SockaddrCopy address = held->AddressFor(connect_.socket.domain);
    const int result = ConnectWithoutWaiting(connect_.socket.fd.get(), address, context_.uring);
    if (result != EINPROGRESS) {
      kept.Forget();
      return Outcome::Of(Answer::Performed(0, result));
    }
    auto pending = carried_->pending().Add(cookie_, address);
    if (pending == nullptr) {
      kept.Forget();
      return Outcome::Of(Answer::Performed(0, ENOBUFS));
    }
    carried_->peers().Remember(cookie_, connect_.destination.endpoint);
    std::unique_ptr<CarriedOperation> operation;
    if (blocking_) {
      operation = std::make_unique<CarriedOperation>(
          UniqueFd(fcntl(connect_.socket.fd.get(), F_DUPFD_CLOEXEC, 0)), pending);
    }
    if (!starter) {
      starter.emplace(*worker, Request(shared_net));
    }
    Start(*starter, std::move(pending), std::move(*held), std::move(kept));
    if (blocking_) {
      return Outcome::Of(std::move(operation));
    }
    return Outcome::Of(Answer::Performed(0, EINPROGRESS), std::move(connect_.socket.fd));
  }

  // Whether the proxy is asked before the socket is connecting to the agent's end. Not for one that
  // is no fresh one and will not; and no further ahead of the worker than a few connections.
  [[nodiscard]] bool MayBeginEarly(const Worker& worker) const {
    constexpr size_t kMaxAhead = 8;
    return carry() == policy::Carry::kProxy && worker.jobs() < kMaxAhead &&
           TcpState(connect_.socket.fd.get()) == TCP_CLOSE;
  }
};

}  // namespace

Outcome ConnectCarried(const CallContext& context, const GuardedCall& call,
                       CarriedConnect connect) {
  if (!connect.socket.is_stream()) {
    return ConnectDatagrams(context, call, std::move(connect));
  }
  return Attempt(context, call, std::move(connect)).Run();
}

}  // namespace oakum::agent
