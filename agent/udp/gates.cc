#include "agent/udp/gates.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <utility>

#include "agent/caller/netns.h"
#include "agent/calls/inet_destination.h"

namespace oakum::agent {

namespace {

policy::Endpoint OwnEndpoint(int socket_fd) {
  SockaddrCopy own;
  own.length = sizeof own.storage;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&own.storage), &own.length) != 0) {
    return {};
  }
  return ReadEndpoint(own);
}

policy::IpAddress LoopbackOf(bool v4) {
  return v4 ? policy::IpAddress::FromV4({127, 0, 0, 1})
            : policy::CanonicalDestination(policy::IpAddress());
}

// 0 or an errno value: that of a machine without IPv6 where loopback has no such address.
int MakeGateSocket(bool v4, UniqueFd& out) {
  const int domain = v4 ? AF_INET : AF_INET6;
  out.Reset(socket(domain, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out) {
    return errno;
  }
  const SockaddrCopy address = WriteEndpoint({LoopbackOf(v4), 0}, domain);
  if (bind(out.get(), address.get(), address.length) != 0) {
    return errno == EADDRNOTAVAIL ? ENETUNREACH : errno;
  }
  return 0;
}

std::shared_ptr<const DatagramCaller> CallerOf(const CallContext& context,
                                               const GuardedCall& call) {
  auto caller = std::make_shared<DatagramCaller>();
  caller->core = context.core.weak_from_this();
  caller->call = call;
  caller->call.over = true;
  caller->call.slot = nullptr;  // another call's by then
  caller->call.source.reset();  // a gate has the decision, and the policy with it
  const auto status = ReadTaskStatus(call.notification.tid);
  caller->tgid = status ? status->tgid : call.notification.tid;
  caller->start_time = ReadStartTime(caller->tgid);
  return caller;
}

}  // namespace

std::shared_ptr<Gates> Gates::Create(const std::shared_ptr<ContainerCarrier>& container,
                                     std::shared_ptr<CarriedSockets> sockets) {
  // The resolver's thread: a query is answered where it was read.
  auto found = std::make_shared<std::promise<Worker*>>();
  auto worker = found->get_future();
  if (!container->WithResolver(
          [found = std::move(found)](Worker& own, Resolver&) { found->set_value(&own); })) {
    return nullptr;
  }
  Worker* const own = worker.get();
  std::shared_ptr<Gates> gates(
      new Gates(container, std::move(sockets), *own, container->kept_sockets()));
  gates->loop_->SetRelease([weak = std::weak_ptr<Gates>(gates)](const Gate& gate, bool anyhow) {
    const auto self = weak.lock();
    return self == nullptr || self->Release(gate, anyhow);
  });
  return gates;
}

Gates::Gates(const std::shared_ptr<ContainerCarrier>& container,
             std::shared_ptr<CarriedSockets> sockets, Worker& worker,
             std::shared_ptr<KeptSockets> kept)
    : sockets_(std::move(sockets)),
      kept_(std::move(kept)),
      carrier_(container->carrier()),
      worker_(worker),
      container_(container),
      loop_(std::make_shared<GateLoop>(container, sockets_, worker.loop())) {}

Gates::~Gates() {
  entries_.clear();  // before the loop closes what is kept
  worker_.Post([loop = std::move(loop_)]() mutable { loop.reset(); });
}

void Gates::Post(std::function<void(GateLoop&)> job) {
  worker_.Post([loop = loop_, job = std::move(job)] { job(*loop); });
}

Expected<std::shared_ptr<const UniqueFd>> Gates::NetworkOfSocket(int socket_fd, uint64_t netns) {
  if (auto known = networks_[netns].lock(); known != nullptr) {
    return known;
  }
  std::erase_if(networks_, [](const auto& entry) { return entry.second.expired(); });
  auto network = NetworkOf(socket_fd, carrier_.own_netns());
  if (!network) {
    return std::unexpected(std::move(network.error()));
  }
  std::shared_ptr<const UniqueFd> shared = std::make_shared<UniqueFd>(std::move(*network));
  networks_[netns] = shared;
  return shared;
}

std::optional<RelaySlot> Gates::MakeRoom(ContainerCarrier& container) {
  std::optional<RelaySlot> slot;
  if (entries_.size() < kMaxGates) {
    slot = container.TakeDatagramSlot();
  }
  if (slot || entries_.empty()) {
    return slot;
  }
  const auto oldest = std::ranges::min_element(entries_, {}, [](const auto& entry) {
    return std::pair(entry.second.connected, entry.second.used);
  });
  oldest->second.kept.Forget();
  Post([id = oldest->second.gate->id](GateLoop& loop) { loop.Close(id); });
  slot = std::move(oldest->second.slot);
  entries_.erase(oldest);
  return slot;
}

int Gates::Open(const DatagramRoute& route, const Key& key, Entries::iterator& out) {
  const auto container = container_.lock();
  const auto network = NetworkOfSocket(route.socket.fd.get(), key.netns);
  if (container == nullptr || !network) {
    return EACCES;
  }
  std::optional<RelaySlot> slot = MakeRoom(*container);
  if (!slot) {
    return ENOBUFS;
  }
  UniqueFd fd;
  int error = EACCES;
  const auto entered = WithNetwork(
      (*network)->get(), [&] { error = MakeGateSocket(route.destination.ip.IsV4(), fd); });
  if (!entered || error != 0) {
    return entered ? error : EACCES;
  }
  auto gate = std::make_shared<Gate>();
  gate->network = *network;
  gate->first_network = container->IsFirstNetwork((*network)->get());
  gate->judged = route.judged;
  out = Add(key, std::move(gate), std::move(*slot), std::move(fd));
  return 0;
}

Gates::Entries::iterator Gates::Add(const Key& key, std::shared_ptr<Gate> gate, RelaySlot slot,
                                    UniqueFd fd) {
  gate->id = next_id_++;
  gate->netns = key.netns;
  gate->address = OwnEndpoint(fd.get());
  gate->destination = key.destination;
  sockets_->SetGate(key.netns, gate->address, key.destination);
  const auto added =
      entries_
          .insert_or_assign(key, Entry{gate, Clock::now(), false, std::move(slot), fd.get(), {}})
          .first;
  Post([gate = std::move(gate), shared = std::make_shared<UniqueFd>(std::move(fd))](
           GateLoop& loop) { loop.Add(gate, std::move(*shared)); });
  return added;
}

void Gates::Keep(Entry& entry, const CallContext& context) {
  if (const auto container = container_.lock(); container != nullptr && !entry.kept) {
    (void)entry.kept.Keep(
        *container, context.core.weak_from_this(),
        [&](uint64_t session) {
          return EncodeGateName({session, SocketCookie(entry.fd), entry.gate->destination,
                                 entry.gate->judged.decision.carry == policy::Carry::kResolver});
        },
        [&] { return std::optional(KeptEnds{entry.fd, -1, -1, -1}); });
  }
}

void Gates::KnowAgain(const std::shared_ptr<SessionCore>& core) {
  const std::lock_guard lock(mutex_);
  if (kept_ == nullptr || std::exchange(known_again_, true)) {
    return;
  }
  kept_->Read([](const KeptSockets::Peer&) {},
              [&](const KeptSockets::Sender& sender) {
                auto caller = std::make_shared<DatagramCaller>();
                caller->core = core;
                caller->call.notification.tid = sender.tid;
                caller->call.kind.name = "sendto";
                caller->call.over = true;
                caller->tgid = sender.tgid;
                caller->start_time = sender.start_time;
                sockets_->Carry(sender.cookie, sender.netns, sender.local_port, std::move(caller));
              });
}

bool Gates::TakeUp(UniqueFd fd, const GateIdentity& identity, const Judged& judged,
                   KeptConnection kept) {
  const std::lock_guard lock(mutex_);
  const auto container = container_.lock();
  const Key key{NetworkCookie(fd.get()), identity.destination, judged.decision.carry};
  const auto network = NetworkOfSocket(fd.get(), key.netns);
  auto slot = container != nullptr ? MakeRoom(*container) : std::nullopt;
  if (!network || !slot || entries_.contains(key)) {
    kept.Forget();
    return false;
  }
  auto gate = std::make_shared<Gate>();
  gate->network = *network;
  gate->first_network = container->IsFirstNetwork((*network)->get());
  gate->judged = judged;
  const auto added = Add(key, std::move(gate), std::move(*slot), std::move(fd));
  added->second.connected = true;
  added->second.kept = std::move(kept);
  return true;
}

int Gates::Lead(const CallContext& context, const GuardedCall& call, const DatagramRoute& route,
                SockaddrCopy& address) {
  const int fd = route.socket.fd.get();
  const Key key{NetworkCookie(fd), route.destination, route.judged.decision.carry};
  // Before anything can arrive the gate has to know who sends.
  if (OwnEndpoint(fd).port == 0) {
    TakePort(route.socket);
  }
  const uint16_t own_port = OwnEndpoint(fd).port;
  const uint64_t cookie = SocketCookie(fd);
  if (!sockets_->Renew(cookie, key.netns, own_port)) {
    auto caller = CallerOf(context, call);
    if (kept_ != nullptr) {
      kept_->Add(KeptSockets::Sender{cookie, key.netns, own_port, call.notification.tid,
                                     caller->tgid, caller->start_time});
    }
    sockets_->Carry(cookie, key.netns, own_port, std::move(caller));
  }
  const std::lock_guard lock(mutex_);
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    if (const int error = Open(route, key, found); error != 0) {
      return error;
    }
  }
  Entry& entry = found->second;
  if (entry.gate->judged.policy != route.judged.policy ||
      entry.gate->judged.names != route.judged.names) {
    auto renewed = std::make_shared<Gate>(*entry.gate);
    renewed->judged = route.judged;
    entry.gate = renewed;
    Post([gate = std::move(renewed)](GateLoop& loop) { loop.Update(gate); });
  }
  entry.used = Clock::now();
  entry.connected = entry.connected || route.connects;
  if (entry.connected) {
    Keep(entry, context);
  }
  address = WriteEndpoint(entry.gate->address, route.socket.domain);
  return address.length > 0 ? 0 : EAFNOSUPPORT;
}

bool Gates::Release(const Gate& gate, bool anyhow) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find({gate.netns, gate.destination, gate.judged.decision.carry});
  if (found == entries_.end() || found->second.gate->id != gate.id) {
    return true;
  }
  const auto idle = gate.judged.decision.carry == policy::Carry::kResolver ? kIdleResolver : kIdle;
  if (!anyhow && (found->second.connected || Clock::now() - found->second.used < idle)) {
    return false;
  }
  found->second.kept.Forget();
  entries_.erase(found);
  return true;
}

}  // namespace oakum::agent
