#include "agent/session/relay_recovery.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "agent/proxy/held_socket.h"
#include "agent/proxy/kept_names.h"
#include "agent/proxy/proxy_socket.h"
#include "agent/proxy/relay.h"
#include "agent/proxy/resumed_connect.h"
#include "agent/proxy/tcp_socket.h"
#include "agent/proxy/tls_relay.h"
#include "agent/proxy/tls_stream.h"
#include "agent/session/notify_fd.h"
#include "agent/session/relay_doubles.h"

namespace oakum::agent {

namespace {

bool IsPipe(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

// The other end of a pipe, as another open file (proc_pid_fd(5)).
UniqueFd OtherEnd(int fd, int access) {
  return UniqueFd(
      open(fmt::format("/proc/self/fd/{}", fd).c_str(), access | O_NONBLOCK | O_CLOEXEC));
}

// False when there is none, or it cannot be had.
bool Complete(Pipe& pipe) {
  if (!pipe.out && pipe.in) {
    pipe.out = OtherEnd(pipe.in.get(), O_RDONLY);
  } else if (!pipe.in && pipe.out) {
    pipe.in = OtherEnd(pipe.out.get(), O_WRONLY);
  }
  int bytes = 0;
  if (!pipe.out || !pipe.in || ioctl(pipe.out.get(), FIONREAD, &bytes) != 0) {
    return false;
  }
  pipe.bytes = static_cast<size_t>(bytes);
  return true;
}

KeptRelay Sort(KeptItem item, const RelayIdentity& identity) {
  KeptRelay relay;
  for (UniqueFd& fd : item.fds) {
    if (IsPipe(fd.get())) {
      const bool reads = (fcntl(fd.get(), F_GETFL) & O_ACCMODE) == O_RDONLY;
      (reads ? relay.out_pipe.out : relay.in_pipe.in) = std::move(fd);
    } else if (SocketCookie(fd.get()) == identity.near) {
      relay.near = std::move(fd);
    } else if (!NotifyFd::IsListener(fd.get())) {
      relay.far.fd = std::move(fd);
    }
  }
  return relay;
}

// Connections that wait for their proxies. What goes on has to be decided with what is the
// container's: aside, and some at a time, of which a container may have more than jobs there.
class Waiting {
 public:
  Waiting(Carrier& carrier, Aside& aside) : carrier_(carrier), aside_(aside) {}

  // False when there is no socket that holds one.
  bool Add(KeptItem item, const HeldIdentity& identity, std::shared_ptr<SessionCore> session) {
    UniqueFd fd;
    UniqueFd listener;
    for (UniqueFd& one : item.fds) {
      if (const auto state = TcpState(one.get()); state) {
        (*state == TCP_LISTEN ? listener : fd) = std::move(one);
      }
    }
    auto held = HeldSocket::TakeUp(std::move(fd), std::move(listener), carrier_.own_ports());
    if (!held) {
      return false;
    }
    some_[session->container()->carried().get()].push_back(
        {identity, std::move(item.name), std::move(session), std::move(*held)});
    return true;
  }

  // Returns how many there was no room for.
  size_t GoOn() {
    size_t lost = 0;
    for (auto& [owner, all] : some_) {
      for (size_t begun = 0; begun < all.size(); begun += kAtOnce) {
        const auto first = all.begin() + static_cast<ptrdiff_t>(begun);
        const auto last = first + static_cast<ptrdiff_t>(std::min(kAtOnce, all.size() - begun));
        // std::function wants what can be copied.
        const auto job =
            std::make_shared<std::vector<One>>(std::move_iterator(first), std::move_iterator(last));
        if (!aside_.Run(owner, [job, &carrier = carrier_] { GoOn(*job, carrier); })) {
          lost += job->size();
          Forget(*job);
        }
      }
    }
    return lost;
  }

 private:
  struct One {
    HeldIdentity identity;
    std::string name;
    std::shared_ptr<SessionCore> session;
    HeldSocket held;
  };
  static constexpr size_t kAtOnce = 16;

  static void GoOn(std::vector<One>& job, Carrier& carrier) {
    for (One& one : job) {
      if (!GoOnHolding(*one.session, one.identity, one.name, std::move(one.held))) {
        carrier.kept_relays().Forget(one.name);
      }
    }
  }

  void Forget(const std::vector<One>& job) {
    for (const One& one : job) {
      carrier_.kept_relays().Forget(one.name);
    }
  }

  Carrier& carrier_;
  Aside& aside_;
  std::map<Aside::Owner, std::vector<One>> some_;
};

struct RelaysTakenUp {
  size_t go_on = 0;
  size_t held = 0;  // their proxies are asked again
  size_t tls = 0;   // reset: what TLS knows of a connection to a proxy was in that agent's memory
  size_t lost = 0;  // reset: damaged, more than there may be, or of a session that has ended
};

RelaysTakenUp TakeUp(std::vector<KeptItem>& items, const FindSession& find, Carrier& carrier,
                     Aside& aside) {
  RelaysTakenUp result;
  DropDoubles(items, carrier.kept_relays());
  Waiting waiting(carrier, aside);
  for (KeptItem& item : items) {
    if (!item.name.starts_with(kKeptRelayPrefix)) {
      continue;
    }
    const std::string name = item.name;
    if (const auto held = DecodeHeldName(name); held) {
      auto session = find(held->session);
      if (session != nullptr && waiting.Add(std::move(item), *held, std::move(session))) {
        ++result.held;
      } else {
        ++result.lost;
        carrier.kept_relays().Forget(name);
      }
      continue;
    }
    const auto identity = DecodeRelayName(name);
    const auto session = identity ? find(identity->session) : nullptr;
    KeptRelay relay = Sort(std::move(item), identity.value_or(RelayIdentity()));
    // What the agent before spoke itself, or looked at.
    const bool tls = relay.near && !relay.far.fd;
    relay.far.in_tls_process = TlsRelay::IsOne(relay);
    const auto carried = session != nullptr ? session->container()->carried() : nullptr;
    std::optional<RelaySlot> slot;
    std::optional<RelaySlot> kept_slot;
    Worker* worker = nullptr;
    if (carried != nullptr && relay.near && relay.far.fd &&
        (relay.far.in_tls_process || (Complete(relay.out_pipe) && Complete(relay.in_pipe))) &&
        (slot = carried->TakeSlot()) && (kept_slot = carried->TakeKeptSlot())) {
      worker = carrier.NextWorker();
    }
    if (worker == nullptr) {
      ++(tls && session != nullptr ? result.tls : result.lost);
      // The last close of both ends resets them (SO_LINGER).
      carrier.kept_relays().Forget(name);
      continue;
    }
    relay.slot = std::move(*slot);
    relay.owner = {carried, session, identity->client, identity->asked};
    PrepareRelayed(relay.near.get());  // if that agent had not come to it
    KeptRelays& all = carrier.kept_relays();
    all.TakeUp(
        name, session,
        {relay.near.get(), relay.far.fd.get(), relay.out_pipe.out.get(), relay.in_pipe.in.get()});
    relay.kept = KeptConnection(all, name, std::move(*kept_slot));
    // std::function wants what can be copied.
    worker->Post([worker, kept = std::make_shared<KeptRelay>(std::move(relay))] {
      kept->far.in_tls_process ? TlsRelay::GoOn(*worker, std::move(*kept))
                               : Relay::GoOn(*worker, std::move(*kept));
    });
    ++result.go_on;
  }
  const size_t lost = waiting.GoOn();
  result.held -= lost;
  result.lost += lost;
  return result;
}

}  // namespace

KeptPeers::KeptPeers(const std::vector<KeptItem>& items) {
  for (const KeptItem& item : items) {
    if (const auto relay = DecodeRelayName(item.name); relay) {
      of_session_[relay->session].emplace_back(relay->client, relay->asked);
    } else if (const auto held = DecodeHeldName(item.name); held) {
      of_session_[held->session].emplace_back(held->client, held->asked);
    }
  }
}

void KeptPeers::Remember(const SessionCore& session) const {
  const auto found = of_session_.find(SessionOfName(session.kept_name()));
  if (found != of_session_.end()) {
    for (const auto& [client, asked] : found->second) {
      session.container()->carried()->peers().Remember(client, asked);
    }
  }
}

void GoOnWithRelays(std::vector<KeptItem>& items, const FindSession& find, Carrier& carrier,
                    Aside& aside, const Log& log) {
  const RelaysTakenUp relays = TakeUp(items, find, carrier, aside);
  if (relays.go_on > 0) {
    log.Notice("{} connections through proxies go on", relays.go_on);
  }
  if (relays.held > 0) {
    log.Notice("{} connections that waited for a proxy ask it again", relays.held);
  }
  if (relays.tls > 0) {
    log.Warning(
        "{} connections are reset: only the agent before this one could go on with what it had "
        "encrypted (TLS), or looked at",
        relays.tls);
  }
  if (relays.lost > 0) {
    log.Warning("{} connections are reset: their sessions have ended, or there is no room for them",
                relays.lost);
  }
}

}  // namespace oakum::agent
