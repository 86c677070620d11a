#include "agent/proxy/carried_connect.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "agent/caller/netns.h"
#include "agent/proxy/held_connection.h"
#include "agent/proxy/route.h"
#include "agent/proxy/tcp_socket.h"
#include "agent/udp/udp_connect.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

bool IsNonBlocking(int socket_fd) { return (fcntl(socket_fd, F_GETFL) & O_NONBLOCK) != 0; }

// A connect(2) that goes on in the kernel where it would wait. Without io_uring, by the one call
// that does so on a blocking socket: sendto(2) with MSG_FASTOPEN and nothing to send
// (tcp_sendmsg_fastopen(), net/ipv4/tcp.c).
int ConnectWithoutWaiting(int socket_fd, const SockaddrCopy& address, UringCalls* uring) {
  if (IsNonBlocking(socket_fd)) {
    return connect(socket_fd, address.get(), address.length) == 0 ? 0 : errno;
  }
  if (uring != nullptr) {
    return uring->Connect(socket_fd, address.get(), address.length);
  }
  return sendto(socket_fd, nullptr, 0, MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL, address.get(),
                address.length) == 0
             ? 0
             : errno;
}

// Waits for a connection that a worker brings about. Shared by all who wait for it, so that a
// caller who was interrupted and calls again waits on (connect(2), EINTR).
class CarriedOperation final : public Operation {
 public:
  CarriedOperation(UniqueFd socket, std::shared_ptr<PendingConnect> pending)
      : socket_(std::move(socket)), pending_(std::move(pending)) {
    pending_->Enter(socket_.get());
  }
  ~CarriedOperation() override { pending_->Leave(socket_.get()); }
  CarriedOperation(const CarriedOperation&) = delete;
  CarriedOperation& operator=(const CarriedOperation&) = delete;

  std::optional<Answer> Step(const Stepper& stepper) override {
    const int failed = pending_->error();
    switch (TcpState(socket_.get()).value_or(TCP_CLOSE)) {
      case TCP_SYN_SENT:
      case TCP_SYN_RECV:
        return std::nullopt;  // once it has failed it leaves that state
      case TCP_CLOSE: {
        // Takes the socket's own error, as a connect(2) that waits does.
        const int error = TakeSocketError(socket_.get());
        return Answer::Performed(0, failed != 0 ? failed : error != 0 ? error : ECONNABORTED);
      }
      default:
        break;
    }
    // The socket has to be told that it is connected; it is, so this never waits. Reset by another
    // thread meanwhile, it would be to a port where nobody is.
    const int result = ConnectWithoutWaiting(socket_.get(), pending_->address(), stepper.uring);
    return Answer::Performed(0, result == EISCONN ? 0 : result);
  }
  Wait wait() const override { return {EPOLLOUT, {}}; }
  int socket_fd() const override { return socket_.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.get(), SO_SNDTIMEO);
  }
  Answer TimedOut() override { return Answer::Performed(0, EINPROGRESS); }

 private:
  const UniqueFd socket_;
  const std::shared_ptr<PendingConnect> pending_;
};

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

// What `attempt` returns once the agent has room for it, or in the end.
template <typename Attempt>
auto WhileShort(Attempt attempt) {
  ShortageWait room;
  auto result = attempt();
  while (!result && room.Again(result.error().code)) {
    result = attempt();
  }
  return result;
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

// The address that `socket_fd` has, as the held socket's family writes it.
SockaddrCopy OwnAddress(int socket_fd, int domain) {
  SockaddrCopy address;
  address.length = sizeof address.storage;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return {};
  }
  if (domain == AF_INET && address.storage.ss_family == AF_INET6) {
    const policy::Endpoint own = ReadEndpoint(address);
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(own.port);
    memcpy(&in.sin_addr, own.ip.bytes().data() + 12, sizeof in.sin_addr);
    memcpy(&address.storage, &in, sizeof in);
    address.length = sizeof in;
  }
  return address;
}

// One connect(2), as far as a session's thread takes it.
class Attempt {
 public:
  Attempt(const CallContext& context, const GuardedCall& call, CarriedConnect connect)
      : context_(context),
        call_(call),
        connect_(std::move(connect)),
        carried_(context.carried()),
        cookie_(connect_.socket.cookie),
        netns_(NetworkCookie(connect_.socket.fd.get())),
        blocking_(!IsNonBlocking(connect_.socket.fd.get())) {}

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

  // The same from where the container's socket waits for `held`.
  bool GoOn(HeldSocket held, const std::string& kept_name) {
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
    HeldConnection::Starter starter(*worker, Request(net));
    Start(starter, std::move(pending), std::move(held), kept_name);
    return true;
  }

 private:
  Carrier& carrier() { return carried_->carrier(); }
  [[nodiscard]] policy::Carry carry() const { return connect_.judged.decision.carry; }
  [[nodiscard]] const policy::Proxy& proxy() const { return *connect_.judged.decision.proxy; }

  [[nodiscard]] ProxyReport Report() const {
    return {context_.core, call_,
            policy::InetRequest{policy::Operation::kConnect,
                                policy::Transport::kTcp,
                                connect_.destination.endpoint,
                                {},
                                connect_.judged.names},
            connect_.judged.decision};
  }

  [[nodiscard]] bool IsNameless() const {
    return Names::IsSynthetic(connect_.destination.endpoint.ip) && connect_.judged.names.empty();
  }

  [[nodiscard]] bool IsInOwnNetwork() { return netns_ != 0 && netns_ == carrier().own_netns(); }

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

  [[nodiscard]] ProxyTarget Target() const {
    ProxyTarget target;
    target.address = connect_.destination.endpoint;
    // A proxy that resolves names is given the one that the program looked up. Where there are
    // several it is not known which: then it is given the address.
    const bool resolves = std::ranges::all_of(proxy().urls, [](const policy::ProxyUrl& url) {
      return url.scheme != policy::ProxyScheme::kSocks5;
    });
    const bool synthetic = Names::IsSynthetic(target.address.ip);
    if (!connect_.judged.names.empty() &&
        (synthetic || (resolves && connect_.judged.names.size() == 1))) {
      target.name = connect_.judged.names.front();
    }
    return target;
  }

  void ReadCaller() { tgid_ = context_.descriptors.GroupOf(call_.notification.tid); }

  std::optional<Credentials> Isolate() {
    uint64_t start_time = 0;
    if (proxy().isolate == policy::Isolation::kProcess) {
      ReadCaller();
      start_time = ReadStartTime(tgid_);
    }
    return carried_->isolator().For(proxy(), Target(), tgid_, start_time);
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
            carried->peers().Remember(cookie, asked);
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

  // What each held connection wants; else why there is none.
  std::optional<Outcome> GetReady(std::shared_ptr<UniqueFd>& shared_net, Worker*& worker) {
    if (auto slot = carried_->TakeSlot(); slot) {
      slot_ = std::move(*slot);
    } else {
      Report().Failed({ENOBUFS, "the container has too many connections at a time", false});
      return Outcome::Of(Answer::Error(ENOBUFS));
    }
    ReadCaller();
    auto net = WhileShort([&] {
      return IsInOwnNetwork() ? Expected<UniqueFd>()
                              : NetworkOf(connect_.socket.fd.get(), carrier().own_netns());
    });
    if (!net) {
      return Unreachable(net.error());
    }
    shared_net = std::make_shared<UniqueFd>(std::move(*net));
    worker = carrier().NextWorker();
    if (worker == nullptr) {
      return Outcome::Of(Answer::Error(ENOBUFS));
    }
    return std::nullopt;
  }

  void Start(HeldConnection::Starter& starter, std::shared_ptr<PendingConnect> pending,
             HeldSocket held, std::string kept_name = {}) {
    const HeldClient client{.tgid = tgid_,
                            .number = connect_.number,
                            .cookie = cookie_,
                            .waits = blocking_,
                            .address = OwnAddress(connect_.socket.fd.get(), held.domain())};
    starter.Hold({.pending = std::move(pending),
                  .held = std::move(held),
                  .client = client,
                  .report = Report(),
                  .kept_name = std::move(kept_name)});
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
    const SockaddrCopy address = held->AddressFor(connect_.socket.domain);
    const int result = ConnectWithoutWaiting(connect_.socket.fd.get(), address, context_.uring);
    if (result != EINPROGRESS) {
      return Outcome::Of(Answer::Performed(0, result));
    }
    auto pending = carried_->pending().Add(cookie_, address);
    if (pending == nullptr) {
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
    Start(*starter, std::move(pending), std::move(*held));
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

  [[nodiscard]] HeldRequest Request(const std::shared_ptr<UniqueFd>& net) {
    HeldRequest request{.container = carried_,
                        .policy = connect_.judged.policy,
                        .slot = std::move(slot_),
                        .carry = carry(),
                        .dial = {},
                        .dns = {},
                        .make_far = {},
                        .asked = connect_.destination.endpoint};
    FillIn(request, net);
    return request;
  }

  void FillIn(HeldRequest& request, const std::shared_ptr<UniqueFd>& net) {
    const auto make_socket = [net](int domain, int type) {
      UniqueFd socket;
      int error = 0;
      const auto entered = WithNetwork(net->get(), [&] {
        socket.Reset(::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        error = errno;
      });
      errno = entered ? error : entered.error().code;
      return socket;
    };
    std::function<UniqueFd(int)> proxy_socket;
    if (connect_.judged.decision.proxy != nullptr && FromContainer(net->get())) {
      proxy_socket = [make_socket](int domain) { return make_socket(domain, SOCK_STREAM); };
    }
    if (carry() == policy::Carry::kResolver) {
      request.dns.keep = connect_.judged.policy;
      request.dns.settings = &connect_.judged.policy->dns();
      request.dns.server = connect_.destination.endpoint;
      request.dns.tgid = tgid_;
      request.dns.start_time = ReadStartTime(tgid_);
      request.dns.network = netns_;
      request.dns.own_network = carried_->IsFirstNetwork(net->get());
      request.dns.make_socket = make_socket;
      request.dns.proxy_socket = std::move(proxy_socket);
      return;
    }
    request.dial.keep = connect_.judged.policy;
    request.dial.proxy = connect_.judged.decision.proxy;
    if (carry() == policy::Carry::kProxy) {
      request.dial.target = Target();
      request.dial.credentials = credentials_;
      request.dial.ready = &carried_->ready();
      request.dial.network = proxy_socket ? netns_ : 0;
    }
    request.dial.make_socket = std::move(proxy_socket);
    if (carry() == policy::Carry::kChecked && context_.Audits()) {
      request.make_far = [make_socket](int domain) { return make_socket(domain, SOCK_STREAM); };
    }
  }

  // Whether the agent's own socket towards the proxy is one of the container's network namespace.
  [[nodiscard]] bool FromContainer(int net_fd) const {
    if (net_fd < 0) {
      return false;  // they are one
    }
    switch (proxy().from) {
      case policy::ProxyFrom::kContainer:
        return true;
      case policy::ProxyFrom::kHost:
        return false;
      case policy::ProxyFrom::kAuto:
        break;
    }
    // In a network of its own a container may pose as the proxy: what is secret is only spoken from
    // the agent's.
    return has_route_ && CanConnectDirectly(proxy(), false) && HasRoute(net_fd);
  }

  // Whether the container's network reaches the first URL. Where that cannot be seen it does:
  // nothing goes out of another network for want of a descriptor.
  [[nodiscard]] bool HasRoute(int net_fd) const {
    return RouteOnceThereIsRoom(*proxy().urls.front().endpoint, net_fd) != Route::kNone;
  }

  Outcome Unreachable(const Error& error) {
    // Without ::1 an IPv6 socket has no way; the rest is the agent's own limits and privileges.
    const int told = error.code == EADDRNOTAVAIL ? ENETUNREACH
                     : IsShortage(error.code)    ? ENOBUFS
                                                 : EACCES;
    Report().Failed({told, "cannot be carried: " + error.ToString(), false});
    return Outcome::Of(Answer::Error(told));
  }

  const CallContext& context_;
  const GuardedCall& call_;
  CarriedConnect connect_;
  const std::shared_ptr<ContainerCarrier> carried_;
  const uint64_t cookie_;
  const uint64_t netns_;  // SO_NETNS_COOKIE, 0 where the kernel does not tell
  const bool blocking_;
  pid_t tgid_ = 0;
  RelaySlot slot_;
  std::optional<Credentials> credentials_;
  bool has_route_ = true;
};

}  // namespace

Outcome ConnectCarried(const CallContext& context, const GuardedCall& call,
                       CarriedConnect connect) {
  if (!connect.socket.is_stream()) {
    return ConnectDatagrams(context, call, std::move(connect));
  }
  return Attempt(context, call, std::move(connect)).Run();
}

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
  connect.address = WriteEndpoint(identity.asked, connect.socket.domain);
  auto names = context.carried()->names().Of(policy::CanonicalDestination(identity.asked.ip));
  connect.judged = core.Decide(
      call, policy::InetRequest{
                policy::Operation::kConnect, policy::Transport::kTcp, identity.asked, {}, names});
  connect.judged.names = std::move(names);
  return connect.judged.decision.proxy != nullptr &&
         Attempt(context, call, std::move(connect)).GoOn(std::move(held), name);
}

}  // namespace oakum::agent
