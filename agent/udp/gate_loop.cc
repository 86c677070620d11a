#include "agent/udp/gate_loop.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "agent/caller/netns.h"
#include "agent/proxy/direct_connect.h"
#include "agent/proxy/proxy_report.h"
#include "agent/proxy/route.h"

namespace oakum::agent {

namespace {

constexpr size_t kMaxDatagram = 65536;

size_t FamilyIndex(const policy::IpAddress& ip) { return ip.IsV4() ? 0 : 1; }

// What the proxy is told: the name behind a synthetic address, the address otherwise.
ProxyTarget TargetOf(const Gate& gate) {
  ProxyTarget target;
  target.address = gate.destination;
  if (Names::IsSynthetic(gate.destination.ip) && !gate.judged.names.empty()) {
    target.name = gate.judged.names.front();
  }
  return target;
}

}  // namespace

SocketMaker MakerIn(std::shared_ptr<const UniqueFd> network) {
  return [network = std::move(network)](int domain, int type) {
    UniqueFd fd;
    int error = EPERM;
    const auto entered = WithNetwork(network != nullptr ? network->get() : -1, [&] {
      fd.Reset(socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      error = errno;
    });
    errno = entered ? error : entered.error().code;
    return fd;
  };
}

SocketMaker MakerFor(const policy::Proxy& proxy, const std::shared_ptr<const UniqueFd>& network) {
  SocketMaker container = MakerIn(network);
  SocketMaker own = MakerIn(nullptr);
  switch (proxy.from) {
    case policy::ProxyFrom::kContainer:
      return container;
    case policy::ProxyFrom::kHost:
      return own;
    case policy::ProxyFrom::kAuto:
      break;
  }
  const auto& first = proxy.urls.front();
  // Where that cannot be seen it is: nothing goes out of another network for want of a descriptor.
  const bool reachable =
      CanConnectDirectly(proxy, false) &&
      RouteTo(*first.endpoint, network != nullptr ? network->get() : -1) != Route::kNone;
  return reachable ? container : own;
}

bool CarriesNoDatagrams(Upstreams& upstreams, const policy::Proxy& proxy) {
  return std::ranges::all_of(proxy.urls, [&](const policy::ProxyUrl& url) {
    return url.speaks_http() || url.tls || upstreams.udp(url) == Upstreams::Udp::kNo;
  });
}

GateLoop::GateLoop(std::shared_ptr<ContainerCarrier> container,
                   std::shared_ptr<CarriedSockets> sockets, EventLoop& loop)
    : container_(std::move(container)), sockets_(std::move(sockets)), loop_(loop) {}

GateLoop::~GateLoop() {
  loop_.RemoveTimer(sweep_);
  for (const auto& [id, open] : gates_) {
    loop_.Remove(open.fd.get());
  }
}

void GateLoop::Add(std::shared_ptr<const Gate> gate, UniqueFd fd) {
  const uint64_t id = gate->id;
  if (const auto added = loop_.Add(fd.get(), EPOLLIN, [this, id](uint32_t) { Receive(id); });
      !added) {
    (void)release_(*gate, true);
    return;
  }
  if (gate->judged.decision.carry == policy::Carry::kProxy) {
    by_destination_[{gate->netns, gate->destination}] = id;
  }
  gates_[id] = {std::move(gate), std::move(fd)};
  if (sweep_ == EventLoop::TimerId::kNone) {
    sweep_ = loop_.AddTimer(kSweepInterval, [this] { Sweep(); });
  }
}

void GateLoop::Update(std::shared_ptr<const Gate> gate) {
  if (const auto found = gates_.find(gate->id); found != gates_.end()) {
    found->second.gate = std::move(gate);
  }
}

void GateLoop::Close(uint64_t id) {
  const auto found = gates_.find(id);
  if (found == gates_.end()) {
    return;
  }
  const auto place =
      by_destination_.find({found->second.gate->netns, found->second.gate->destination});
  if (place != by_destination_.end() && place->second == id) {
    by_destination_.erase(place);
  }
  loop_.Remove(found->second.fd.get());
  gates_.erase(found);
}

void GateLoop::Receive(uint64_t id) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kMaxDatagram);
  for (int turn = 0; turn < kMaxPerTurn; ++turn) {
    const auto found = gates_.find(id);
    if (found == gates_.end()) {
      return;
    }
    SockaddrCopy from;
    from.length = sizeof from.storage;
    const ssize_t got = recvfrom(found->second.fd.get(), buffer.get(), kMaxDatagram, MSG_DONTWAIT,
                                 reinterpret_cast<sockaddr*>(&from.storage), &from.length);
    if (got < 0) {
      return;
    }
    Take(found->second, ReadEndpoint(from), {buffer.get(), static_cast<size_t>(got)});
  }
}

void GateLoop::Take(const Open& open, const policy::Endpoint& from, std::string_view data) {
  const std::shared_ptr<const Gate> gate = open.gate;
  auto sender = sockets_->FindSender(gate->netns, from.port);
  if (!sender) {
    return;  // not from a socket that was led here
  }
  const Client client{sender->cookie, std::move(sender->caller), from};
  switch (gate->judged.decision.carry) {
    case policy::Carry::kResolver:
      Resolve(*gate, client, data);
      return;
    case policy::Carry::kProxy:
      Relay(gate, client, data);
      return;
    case policy::Carry::kDirect:
    case policy::Carry::kChecked:
      return;
  }
}

void GateLoop::Resolve(const Gate& gate, const Client& client, std::string_view query) {
  DnsContext context;
  context.keep = gate.judged.policy;
  context.settings = &gate.judged.policy->dns();
  context.server = gate.destination;
  context.tgid = client.caller->tgid;
  context.start_time = client.caller->start_time;
  context.network = gate.netns;
  context.own_network = gate.first_network;
  context.make_socket = MakerIn(gate.network);
  // MakerFor looks at the routes: not for each answer that needs no proxy.
  if (context.settings->proxy != nullptr &&
      context.settings->resolve != policy::Resolve::kSynthetic) {
    context.proxy_socket = [make = MakerFor(*context.settings->proxy, gate.network)](int domain) {
      return make(domain, SOCK_STREAM);
    };
  }
  (void)container_->WithResolver([weak = weak_from_this(), id = gate.id, client,
                                  context = std::move(context),
                                  text = std::string(query)](Worker&, Resolver& resolver) {
    resolver.Answer(text, DnsTransport::kUdp, context, [weak, id, client](const DnsReply& reply) {
      if (const auto self = weak.lock(); self != nullptr) {
        self->Answered(id, client, reply);
      }
    });
  });
}

void GateLoop::Answered(uint64_t id, const Client& client, const DnsReply& reply) {
  const auto found = gates_.find(id);
  if (found == gates_.end()) {
    return;
  }
  if (reply.failure) {
    Report(*found->second.gate, *client.caller, *reply.failure);
  }
  if (!reply.message.empty()) {
    SendTo(found->second, client.address, reply.message);
  }
}

void GateLoop::Relay(const std::shared_ptr<const Gate>& gate, const Client& client,
                     std::string_view data) {
  const policy::Proxy& proxy = *gate->judged.decision.proxy;
  if (CarriesNoDatagrams(container_->carrier().upstreams(), proxy)) {
    Deny(*gate, *client.caller);
    (void)release_(*gate, true);
    Close(gate->id);
    return;
  }
  const ProxyTarget target = TargetOf(*gate);
  const bool apart = !target.name.empty() || proxy.isolate == policy::Isolation::kDestination;
  const AssociationKey key{client.cookie, &proxy, apart ? gate->id : 0};
  Associated* const associated = Associate(key, *gate, client);
  if (associated == nullptr) {
    Report(*gate, *client.caller, {ENOBUFS, "the container has too many sockets at a time", false});
    return;
  }
  associated->clients[FamilyIndex(gate->address.ip)] = client.address;
  associated->gate = gate;
  associated->association->Send(target, data);
}

GateLoop::Associated* GateLoop::Associate(const AssociationKey& key, const Gate& gate,
                                          const Client& client) {
  if (const auto found = associations_.find(key); found != associations_.end()) {
    return &found->second;
  }
  std::optional<RelaySlot> slot;
  if (associations_.size() < kMaxAssociations) {
    slot = container_->TakeDatagramSlot();
  }
  if (!slot && !associations_.empty()) {
    const auto oldest = std::ranges::min_element(
        associations_, {}, [](const auto& entry) { return entry.second.association->last_used(); });
    slot = std::move(oldest->second.slot);
    associations_.erase(oldest);
  }
  if (!slot) {
    return nullptr;
  }
  const SocketMaker make = MakerFor(*key.proxy, gate.network);
  Association::Options options;
  options.loop = &loop_;
  options.upstreams = &container_->carrier().upstreams();
  options.request.keep = gate.judged.policy;
  options.request.proxy = key.proxy;
  options.request.command = ProxyCommand::kUdpAssociate;
  options.request.credentials = container_->isolator().For(
      *key.proxy, TargetOf(gate), client.caller->tgid, client.caller->start_time);
  options.request.make_socket = [make](int domain) { return make(domain, SOCK_STREAM); };
  options.make_socket = [make](int domain) { return make(domain, SOCK_DGRAM); };
  options.deliver = [this, key](const RelayedDatagram& datagram) { Deliver(key, datagram); };
  options.ended = [this, key](std::optional<ProxyFailure> failure) {
    Ended(key, std::move(failure));
  };
  Associated& associated = associations_[key];
  associated.slot = std::move(*slot);
  associated.policy = gate.judged.policy;
  associated.caller = client.caller;
  associated.association = Association::Start(std::move(options));
  return &associated;
}

void GateLoop::Deliver(const AssociationKey& key, const RelayedDatagram& datagram) {
  const auto associated = associations_.find(key);
  if (associated == associations_.end()) {
    return;
  }
  const policy::Endpoint& source = datagram.source.address;
  uint64_t id = key.named_gate;
  if (id == 0) {
    const auto place = by_destination_.find({associated->second.gate->netns, source});
    if (place == by_destination_.end() || !datagram.source.name.empty()) {
      return;  // from somebody whom the program did not send to
    }
    id = place->second;
  }
  const auto found = gates_.find(id);
  if (found == gates_.end() || found->second.gate->destination.port != source.port) {
    return;
  }
  SendTo(found->second, associated->second.clients[FamilyIndex(found->second.gate->address.ip)],
         datagram.data);
}

void GateLoop::Ended(const AssociationKey& key, std::optional<ProxyFailure> failure) {
  const auto found = associations_.find(key);
  if (found == associations_.end()) {
    return;
  }
  const Associated ended = std::move(found->second);
  associations_.erase(found);
  if (!failure) {
    return;
  }
  const bool none = CarriesNoDatagrams(container_->carrier().upstreams(), *key.proxy);
  if (!none) {
    Report(*ended.gate, *ended.caller, *failure);
    return;
  }
  // The gates close, so that programs are told with their next datagram.
  std::vector<std::shared_ptr<const Gate>> closing;
  for (const auto& [id, open] : gates_) {
    if (open.gate->judged.decision.proxy == key.proxy) {
      closing.push_back(open.gate);
    }
  }
  for (const auto& gate : closing) {
    if (gate->id == ended.gate->id) {
      Deny(*gate, *ended.caller);
    }
    (void)release_(*gate, true);
    Close(gate->id);
  }
}

void GateLoop::Deny(const Gate& gate, const DatagramCaller& caller) {
  const auto core = caller.core.lock();
  if (core == nullptr) {
    return;
  }
  Judged denied = gate.judged;
  denied.decision.verdict = policy::Verdict::kDeny;
  denied.decision.carry = policy::Carry::kDirect;
  (void)core->Judge(
      caller.call,
      {policy::Operation::kSend, policy::Transport::kUdp, gate.destination, {}, denied.names},
      denied, kNoDatagrams);
}

void GateLoop::Report(const Gate& gate, const DatagramCaller& caller, const ProxyFailure& failure) {
  if (const auto core = caller.core.lock(); core != nullptr) {
    ProxyReport(*core, caller.call,
                {policy::Operation::kSend,
                 policy::Transport::kUdp,
                 gate.destination,
                 {},
                 gate.judged.names},
                gate.judged.decision)
        .Failed(failure);
  }
}

void GateLoop::SendTo(const Open& open, const policy::Endpoint& client, std::string_view data) {
  const int domain = open.gate->address.ip.IsV4() ? AF_INET : AF_INET6;
  const SockaddrCopy address = WriteEndpoint(client, domain);
  if (address.length > 0 && client.port != 0) {
    (void)sendto(open.fd.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                 address.get(), address.length);
  }
}

void GateLoop::Sweep() {
  const Clock::time_point now = Clock::now();
  std::erase_if(associations_, [&](const auto& entry) {
    return now - entry.second.association->last_used() > kAssociationIdle;
  });
  std::vector<uint64_t> idle;
  for (const auto& [id, open] : gates_) {
    if (release_(*open.gate, false)) {
      idle.push_back(id);
    }
  }
  for (const uint64_t id : idle) {
    Close(id);
  }
  sweep_ = loop_.AddTimer(kSweepInterval, [this] { Sweep(); });
}

}  // namespace oakum::agent
