// What carries connections and datagrams through proxies: the parts that one agent has, and those
// that one container has.
#ifndef OAKUM_AGENT_PROXY_CARRIER_H_
#define OAKUM_AGENT_PROXY_CARRIER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "agent/dns/resolv_conf.h"
#include "agent/event.h"
#include "agent/proxy/isolator.h"
#include "agent/proxy/peers.h"
#include "agent/proxy/upstreams.h"
#include "agent/proxy/worker.h"
#include "base/log.h"

namespace oakum::agent {

class Gates;

// Sockets of containers, by cookie (socket(7), SO_COOKIE), that the agent is speaking on: another
// connect(2) has to find EALREADY meanwhile. Thread-safe.
class BusySockets {
 public:
  // False when it is busy already.
  [[nodiscard]] bool Begin(uint64_t cookie);
  void End(uint64_t cookie);
  [[nodiscard]] bool Has(uint64_t cookie) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_set<uint64_t> cookies_;
};

// The ports that the agent holds in network namespaces of containers: nobody but the socket that
// one was made for connects there. Thread-safe.
class OwnPorts {
 public:
  // `netns`: SO_NETNS_COOKIE. Counted: the same port of 127.0.0.1 and of ::1 may be held at once.
  void Add(uint64_t netns, uint16_t port);
  void Remove(uint64_t netns, uint16_t port);
  [[nodiscard]] bool Has(uint64_t netns, uint16_t port) const;

 private:
  mutable std::mutex mutex_;
  std::multiset<std::pair<uint64_t, uint16_t>> ports_;
};

// Of one agent. Thread-safe. Ends its threads when it goes; what its workers keep goes with them.
class Carrier {
 public:
  // Both outlive it.
  Carrier(EventSink& events, const Log& log);
  ~Carrier();
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  // One of at most kMaxWorkers threads, each in turn; started when it is first needed, so that an
  // agent whose policies carry nothing has none. Null when it cannot be started, which is logged.
  [[nodiscard]] Worker* NextWorker();
  [[nodiscard]] Upstreams& upstreams() { return upstreams_; }
  [[nodiscard]] BusySockets& busy() { return busy_; }
  [[nodiscard]] OwnPorts& own_ports() { return own_ports_; }
  [[nodiscard]] EventSink& events() { return events_; }
  [[nodiscard]] const Log& log() const { return log_; }
  // SO_NETNS_COOKIE of the agent's own sockets; 0 where the kernel does not tell.
  [[nodiscard]] uint64_t own_netns() const { return own_netns_; }

  void CountProxyFailure() { proxy_failures_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t proxy_failures() const {
    return proxy_failures_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kMaxWorkers = 4;

  EventSink& events_;
  const Log& log_;
  const uint64_t own_netns_;
  const size_t worker_count_;
  Upstreams upstreams_;
  BusySockets busy_;
  OwnPorts own_ports_;
  std::atomic<uint64_t> proxy_failures_{0};
  std::mutex mutex_;
  size_t next_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;  // last: they use the others
};

// Of one container: shared by its sessions and by what its calls have started. Thread-safe.
class ContainerCarrier {
 public:
  ContainerCarrier(std::shared_ptr<Carrier> carrier, ResolvConf resolv_conf)
      : carrier_(std::move(carrier)), resolv_conf_(std::move(resolv_conf)) {}
  ContainerCarrier(const ContainerCarrier&) = delete;
  ContainerCarrier& operator=(const ContainerCarrier&) = delete;

  [[nodiscard]] Carrier& carrier() { return *carrier_; }
  [[nodiscard]] Isolator& isolator() { return isolator_; }
  [[nodiscard]] Peers& peers() { return peers_; }
  // The container's /etc/resolv.conf as it was when its first session began: nothing that it writes
  // there later makes a server one to be believed.
  [[nodiscard]] const ResolvConf& resolv_conf() const { return resolv_conf_; }

  // The gates of its datagrams; null until they are made, and for good after Close().
  [[nodiscard]] std::shared_ptr<Gates> gates() const;
  // Returns the gates that are there then: those given, or those of whoever came first.
  std::shared_ptr<Gates> SetGates(std::shared_ptr<Gates> gates);

  // The last session has ended: whatever holds a socket in a network namespace of the container and
  // is no connection under way goes, or the namespace would live on.
  void Close();

 private:
  const std::shared_ptr<Carrier> carrier_;
  const ResolvConf resolv_conf_;
  Isolator isolator_;
  Peers peers_;
  mutable std::mutex mutex_;
  bool closed_ = false;
  std::shared_ptr<Gates> gates_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CARRIER_H_
