#include "agent/proxy/carrier.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <semaphore>
#include <thread>

#include "agent/caller/netns.h"
#include "base/unique_fd.h"

namespace oakum::agent {

void OwnPorts::Add(uint64_t netns, uint16_t port) {
  const std::lock_guard lock(mutex_);
  ports_.emplace(netns, port);
  count_.store(ports_.size(), std::memory_order_release);
}

void OwnPorts::Remove(uint64_t netns, uint16_t port) {
  const std::lock_guard lock(mutex_);
  if (const auto found = ports_.find({netns, port}); found != ports_.end()) {
    ports_.erase(found);
    count_.store(ports_.size(), std::memory_order_release);
  }
}

bool OwnPorts::Has(uint64_t netns, uint16_t port) const {
  const std::lock_guard lock(mutex_);
  return ports_.contains({netns, port});
}

Carrier::Carrier(EventSink& events, const Log& log, FdStore* store, TlsProcess* tls_process)
    : events_(events),
      log_(log),
      own_netns_(OwnNetworkCookie()),
      tls_process_(tls_process),
      direct_(upstreams_,
              [this](const void* owner, std::function<void()> job) {
                return aside_.Run(owner, std::move(job));
              }),
      worker_count_(std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxWorkers)),
      connection_slots_(RelaySlots::MaxByLimit()),
      datagram_slots_(RelaySlots::MaxByLimit()),
      ready_slots_(RelaySlots::MaxByLimit()),
      kept_slots_(KeptRelays::MaxByLimit()),
      kept_relays_(store, log) {}

Carrier::~Carrier() { direct_.Close(); }

Worker* Carrier::NextWorker() {
  const std::lock_guard lock(mutex_);
  // Waking one up takes longer than what it is to do, if one is awake and has not more to do than
  // the others.
  if (!workers_.empty()) {
    const size_t least = (*std::ranges::min_element(workers_, {}, &Worker::load))->load();
    for (const auto& worker : workers_) {
      if (worker->is_awake() && worker->load() <= least + 1) {
        return worker.get();
      }
    }
  }
  if (workers_.size() < worker_count_) {
    auto worker = Worker::Create(fmt::format("carrier {}", workers_.size()));
    if (worker) {
      workers_.push_back(std::move(*worker));
      if (ending_) {
        workers_.back()->Post([last = workers_.back().get()] { last->nursery().KeepAll(); });
      }
    } else {
      log_.Error("cannot carry more connections: {}", worker.error().ToString());
    }
  }
  return workers_.empty() ? nullptr : workers_[next_++ % workers_.size()].get();
}

void Carrier::KeepAll() {
  constexpr std::chrono::seconds kLongest{1};
  const auto kept = std::make_shared<std::counting_semaphore<kMaxWorkers>>(0);
  size_t asked = 0;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    asked = workers_.size();
    for (const auto& worker : workers_) {
      worker->Post([worker = worker.get(), kept] {
        worker->nursery().KeepAll();
        kept->release();
      });
    }
  }
  const auto end = std::chrono::steady_clock::now() + kLongest;
  while (asked > 0 && kept->try_acquire_until(end)) {
    --asked;
  }
}

// Holds the container's parts, which the resolver uses, and is dropped by Close().
struct ContainerCarrier::KeptResolver {
  KeptResolver(std::shared_ptr<ContainerCarrier> owner, Worker& worker)
      : container(std::move(owner)),
        resolver(
            {.loop = &worker.loop(),
             .upstreams = &container->carrier_.upstreams(),
             .names = &container->names_,
             .dial = Dial::Start,
             .credentials =
                 [parts = container.get()](const policy::Proxy& proxy, const ProxyTarget& target,
                                           pid_t tgid, uint64_t start_time) {
                   return parts->isolator_.For(proxy, target, tgid, start_time);
                 },
             .take_slot = [parts = container.get()] { return parts->TakeDatagramSlot(); },
             .resolv_conf = container->resolv_conf_}) {}

  const std::shared_ptr<ContainerCarrier> container;
  Resolver resolver;
};

ContainerCarrier::ContainerCarrier(Carrier& carrier, pid_t pid, ResolvConf resolv_conf)
    : carrier_(carrier),
      resolv_conf_(std::move(resolv_conf)),
      connections_(RelayShare::Create(carrier.connection_slots())),
      datagrams_(RelayShare::Create(carrier.datagram_slots())),
      ready_slots_(RelayShare::Create(carrier.ready_slots())),
      kept_slots_(RelayShare::Create(carrier.kept_slots())) {
  struct stat network = {};
  if (pid > 0 && stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &network) == 0) {
    network_device_ = network.st_dev;
    network_inode_ = network.st_ino;
  }
}

bool ContainerCarrier::IsFirstNetwork(int net_fd) const {
  struct stat network = {};
  const int failed = net_fd >= 0 ? fstat(net_fd, &network) : stat("/proc/self/ns/net", &network);
  return failed == 0 && network_inode_ != 0 && network.st_dev == network_device_ &&
         network.st_ino == network_inode_;
}

void ContainerCarrier::KeepSocketsIn(UniqueFd file) {
  const bool are_there = KeptSockets::AreIn(file.get());
  {
    const std::lock_guard lock(mutex_);
    sockets_file_ = std::move(file);
  }
  if (const auto kept = are_there ? kept_sockets() : nullptr; kept != nullptr) {
    kept->Read(
        [this](const KeptSockets::Peer& peer) {
          if (peer.asked_for.port != 0) {
            peers_.Remember(peer.cookie, peer.asked_for);
          } else {
            peers_.Forget(peer.cookie);
          }
        },
        [](const KeptSockets::Sender&) {});
  }
}

std::shared_ptr<KeptSockets> ContainerCarrier::kept_sockets() {
  const std::lock_guard lock(mutex_);
  if (kept_sockets_ == nullptr && sockets_file_) {
    kept_sockets_ = KeptSockets::In(sockets_file_.get());
  }
  return kept_sockets_;
}

void ContainerCarrier::LeadsTo(uint64_t cookie, const policy::Endpoint& asked_for) {
  peers_.Remember(cookie, asked_for);
  if (const auto kept = kept_sockets(); kept != nullptr) {
    kept->Add(KeptSockets::Peer{cookie, asked_for});
  }
}

void ContainerCarrier::LeadsNowhere(uint64_t cookie) {
  if (!peers_.Find(cookie)) {
    return;
  }
  peers_.Forget(cookie);
  std::shared_ptr<KeptSockets> kept;
  {
    const std::lock_guard lock(mutex_);
    kept = kept_sockets_;
  }
  if (kept != nullptr) {
    kept->Add(KeptSockets::Peer{cookie, {}});
  }
}

std::shared_ptr<Gates> ContainerCarrier::gates() const {
  const std::lock_guard lock(mutex_);
  return gates_;
}

std::shared_ptr<Gates> ContainerCarrier::SetGates(std::shared_ptr<Gates> gates) {
  const std::lock_guard lock(mutex_);
  if (gates_ == nullptr && !closed_) {
    gates_ = std::move(gates);
  }
  return gates_;
}

bool ContainerCarrier::WithResolver(std::function<void(Worker&, Resolver&)> job) {
  const std::lock_guard lock(mutex_);
  if (resolver_worker_ == nullptr && !closed_) {
    resolver_worker_ = carrier_.NextWorker();
  }
  if (resolver_worker_ == nullptr || closed_) {
    return false;
  }
  // In the order of posting: Close() comes last.
  resolver_worker_->Post(
      [self = shared_from_this(), worker = resolver_worker_, job = std::move(job)] {
        if (self->resolver_ == nullptr) {
          auto kept = std::make_shared<KeptResolver>(self, *worker);
          self->resolver_ = kept.get();
          worker->Keep(std::move(kept));
        }
        job(*worker, self->resolver_->resolver);
      });
  return true;
}

void ContainerCarrier::AtClose(std::function<void()> action) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      at_close_.push_back(std::move(action));
      return;
    }
  }
  action();
}

void ContainerCarrier::Close() {
  std::shared_ptr<Gates> gates;
  std::vector<std::function<void()>> actions;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    gates.swap(gates_);
    actions.swap(at_close_);
    if (resolver_worker_ != nullptr) {
      resolver_worker_->Post([self = shared_from_this(), worker = resolver_worker_] {
        worker->Drop(std::exchange(self->resolver_, nullptr));
      });
    }
  }
  pending_.Close();
  ready_.Close();
  for (const auto& action : actions) {
    action();
  }
}

}  // namespace oakum::agent
