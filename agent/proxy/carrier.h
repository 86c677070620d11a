// What carries connections and datagrams through proxies: the parts that one agent has, and those
// that one container has.
#ifndef OAKUM_AGENT_PROXY_CARRIER_H_
#define OAKUM_AGENT_PROXY_CARRIER_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "agent/dns/names.h"
#include "agent/dns/resolv_conf.h"
#include "agent/dns/resolver.h"
#include "agent/events/event.h"
#include "agent/kept/fd_store.h"
#include "agent/proxy/aside.h"
#include "agent/proxy/direct_connect.h"
#include "agent/proxy/isolator.h"
#include "agent/proxy/kept_relays.h"
#include "agent/proxy/kept_sockets.h"
#include "agent/proxy/peers.h"
#include "agent/proxy/pending_connect.h"
#include "agent/proxy/ready_proxies.h"
#include "agent/proxy/relay_slots.h"
#include "agent/proxy/upstreams.h"
#include "agent/proxy/worker.h"
#include "base/log.h"

namespace oakum::agent {

class Gates;
class TlsProcess;

// The ports that the agent holds in network namespaces of containers: nobody but the socket that
// one was made for connects there. Thread-safe.
class OwnPorts {
 public:
  // `netns`: SO_NETNS_COOKIE. Counted: the same port of 127.0.0.1 and of ::1 may be held at once.
  void Add(uint64_t netns, uint16_t port);
  void Remove(uint64_t netns, uint16_t port);
  [[nodiscard]] bool Has(uint64_t netns, uint16_t port) const;
  [[nodiscard]] bool empty() const { return count_.load(std::memory_order_acquire) == 0; }

 private:
  mutable std::mutex mutex_;
  std::multiset<std::pair<uint64_t, uint16_t>> ports_;
  std::atomic<size_t> count_{0};  // of ports_
};

// Of one agent. Thread-safe. Ends its threads when it goes; what its workers keep goes with them.
class Carrier {
 public:
  // All outlive it. `store`: where connections are kept for the next agent; null: nowhere.
  // `tls_process`: who speaks TLS for those; null: this process.
  Carrier(EventSink& events, const Log& log, FdStore* store, TlsProcess* tls_process = nullptr);
  ~Carrier();
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  // One of at most kMaxWorkers threads, each in turn; started when it is first needed, so that an
  // agent whose policies carry nothing has none. Null when it cannot be started, which is logged.
  [[nodiscard]] Worker* NextWorker();
  // For what is done to a container's sockets, which workers must not wait for.
  [[nodiscard]] Aside& aside() { return aside_; }
  [[nodiscard]] Upstreams& upstreams() { return upstreams_; }
  [[nodiscard]] DirectConnects& direct() { return direct_; }
  [[nodiscard]] OwnPorts& own_ports() { return own_ports_; }
  [[nodiscard]] RelaySlots& connection_slots() { return connection_slots_; }
  [[nodiscard]] RelaySlots& datagram_slots() { return datagram_slots_; }
  [[nodiscard]] RelaySlots& ready_slots() { return ready_slots_; }
  [[nodiscard]] RelaySlots& kept_slots() { return kept_slots_; }
  [[nodiscard]] KeptRelays& kept_relays() { return kept_relays_; }
  [[nodiscard]] TlsProcess* tls_process() const { return tls_process_; }
  // This agent ends: what is carried now, and what is begun after this, is kept whatever its age.
  // Returns once that is done, or a second has passed.
  void KeepAll();
  [[nodiscard]] EventSink& events() { return events_; }
  [[nodiscard]] const Log& log() const { return log_; }
  // SO_NETNS_COOKIE of the agent's own sockets; 0 where the kernel does not tell.
  [[nodiscard]] uint64_t own_netns() const { return own_netns_; }

 private:
  static constexpr size_t kMaxWorkers = 4;

  EventSink& events_;
  const Log& log_;
  const uint64_t own_netns_;
  TlsProcess* const tls_process_;
  Upstreams upstreams_;
  OwnPorts own_ports_;
  DirectConnects direct_;
  const size_t worker_count_;
  RelaySlots connection_slots_;
  RelaySlots datagram_slots_;
  RelaySlots ready_slots_;
  RelaySlots kept_slots_;
  KeptRelays kept_relays_;
  Aside aside_;  // jobs use what is above, and outlive the containers' calls
  std::mutex mutex_;
  bool ending_ = false;
  size_t next_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;  // last: they use the others
};

// Of one container: shared by its sessions and by what its calls have started. Thread-safe. Objects
// on the workers may hold it: the Carrier outlives it, but nobody may hold that from there.
class ContainerCarrier : public std::enable_shared_from_this<ContainerCarrier> {
 public:
  // `pid`: the container's first process, 0 when unknown; `resolv_conf`: the container's file as it
  // is at its start: nothing that it writes there later makes a server one to be believed.
  ContainerCarrier(Carrier& carrier, pid_t pid, ResolvConf resolv_conf);
  ContainerCarrier(const ContainerCarrier&) = delete;
  ContainerCarrier& operator=(const ContainerCarrier&) = delete;

  [[nodiscard]] Carrier& carrier() { return carrier_; }
  [[nodiscard]] Isolator& isolator() { return isolator_; }
  [[nodiscard]] Names& names() { return names_; }
  [[nodiscard]] Peers& peers() { return peers_; }
  // Has what is to be known of its sockets outlive the agent in `file` (NamesFile), and takes over
  // what is in there: before anything else.
  void KeepSocketsIn(UniqueFd file);
  // Made when it is first asked for; null where nothing is kept, or there is no memory for it.
  [[nodiscard]] std::shared_ptr<KeptSockets> kept_sockets();
  // What peers() is to say of a socket, also in the next agent. A relay's needs no more than
  // peers(): that is in its name (RelayIdentity).
  void LeadsTo(uint64_t cookie, const policy::Endpoint& asked_for);
  void LeadsNowhere(uint64_t cookie);
  [[nodiscard]] PendingConnects& pending() { return pending_; }
  [[nodiscard]] ReadyProxies& ready() { return ready_; }
  [[nodiscard]] const ResolvConf& resolv_conf() const { return resolv_conf_; }
  // For a connection that is kept: held, relayed, checked, or one to the resolver. Nothing when the
  // container has as many as it may.
  [[nodiscard]] std::optional<RelaySlot> TakeSlot() { return connections_->Take(); }
  // For a gate, an association, or a query that is passed on in a datagram.
  [[nodiscard]] std::optional<RelaySlot> TakeDatagramSlot() { return datagrams_->Take(); }
  // For a connection that is kept for the next agent.
  [[nodiscard]] std::optional<RelaySlot> TakeKeptSlot() { return kept_slots_->Take(); }
  // For a connection that nobody needs yet.
  [[nodiscard]] std::optional<RelaySlot> TakeReadySlot() { return ready_slots_->Take(); }
  // Whether a network namespace, -1 for the agent's own, is the one that the container was started
  // in: in others, made by itself, it may be whoever it likes.
  [[nodiscard]] bool IsFirstNetwork(int net_fd) const;

  // The gates of its datagrams; null until they are made, and for good after Close().
  [[nodiscard]] std::shared_ptr<Gates> gates() const;
  // Returns the gates that are there then: those given, or those of whoever came first.
  std::shared_ptr<Gates> SetGates(std::shared_ptr<Gates> gates);

  // Has `job` run with the container's resolver, on its worker's thread. False when there is no
  // thread for it, or after Close().
  [[nodiscard]] bool WithResolver(std::function<void(Worker&, Resolver&)> job);

  // Whatever else has to go in Close(): called then, or at once if that has been.
  void AtClose(std::function<void()> action);
  // The last session has ended: whatever holds a socket in a network namespace of the container and
  // is no connection under way goes, or the namespace would live on.
  void Close();

 private:
  struct KeptResolver;

  Carrier& carrier_;
  const ResolvConf resolv_conf_;
  dev_t network_device_ = 0;  // the first network namespace's, in nsfs
  ino_t network_inode_ = 0;
  Isolator isolator_;
  Names names_;
  Peers peers_;
  PendingConnects pending_;
  ReadyProxies ready_;
  const std::shared_ptr<RelayShare> connections_;
  const std::shared_ptr<RelayShare> datagrams_;
  const std::shared_ptr<RelayShare> ready_slots_;
  const std::shared_ptr<RelayShare> kept_slots_;
  mutable std::mutex mutex_;  // the members below
  bool closed_ = false;
  std::shared_ptr<Gates> gates_;
  UniqueFd sockets_file_;
  std::shared_ptr<KeptSockets> kept_sockets_;
  Worker* resolver_worker_ = nullptr;
  std::vector<std::function<void()>> at_close_;
  // Only on resolver_worker_, which keeps it.
  KeptResolver* resolver_ = nullptr;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CARRIER_H_
