#include "agent/proxy/held_connection.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "agent/proxy/checked_connection.h"
#include "agent/proxy/connect_failure.h"
#include "agent/proxy/kept_names.h"
#include "agent/proxy/make_ready.h"
#include "agent/proxy/proxy_socket.h"
#include "agent/proxy/relay.h"
#include "agent/proxy/tls_relay.h"
#include "agent/proxy/tls_stream.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

namespace {

// Over loopback it takes microseconds, even on a machine that is busy with something else.
constexpr std::chrono::seconds kCompletesWithin{5};

int SocketError(int socket_fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(socket_fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

}  // namespace

HeldConnection::HeldConnection(Worker& worker, HeldRequest request)
    : worker_(worker), request_(std::move(request)) {}

KeptRelays::Result KeepHeld(KeptConnection& kept, ContainerCarrier& container,
                            const std::weak_ptr<SessionCore>& session, const HeldSocket& held,
                            const HeldClient& client, const policy::Endpoint& asked) {
  return kept.Keep(
      container, session,
      [&](uint64_t number) {
        return EncodeHeldName({number, client.cookie, client.tgid, client.number, asked});
      },
      [&] { return std::optional(KeptEnds{held.fd(), held.listener_fd(), -1, -1}); });
}

HeldConnection::~HeldConnection() {
  worker_.nursery().Leave(*this);
  worker_.loop().RemoveTimer(timer_);
  if (watching_) {
    worker_.loop().Remove(end_->held.fd());
  }
  if (watching_far_) {
    worker_.loop().Remove(far_.fd.get());
  }
}

HeldConnection::Starter::Starter(Worker& worker, HeldRequest request) : worker_(worker) {
  auto connection = std::make_shared<HeldConnection>(worker, std::move(request));
  connection_ = connection;
  // Given away: it must not end on this thread.
  worker.Post([&worker, connection = std::move(connection)] {
    worker.Keep(connection);
    connection->Begin();
  });
}

HeldConnection::Starter::~Starter() {
  if (!connection_.expired()) {
    worker_.Post([weak = std::move(connection_)] {
      if (const auto self = weak.lock(); self != nullptr) {
        self->Leave();
      }
    });
  }
}

void HeldConnection::Starter::Hold(HeldEnd end) {
  // std::function wants what can be copied.
  worker_.Post([weak = std::move(connection_), end = std::make_shared<HeldEnd>(std::move(end))] {
    if (const auto self = weak.lock(); self != nullptr) {
      self->Hold(std::move(*end));
    }
  });
  connection_.reset();
}

void HeldConnection::Begin() {
  if (request_.carry == policy::Carry::kProxy) {
    request_.dial.tls_process = request_.container->carrier().tls_process();
    next_ = request_.container->ready().Note(request_.dial, ReadyProxies::Clock::now());
    dial_ = Dial::Start(worker_.loop(), request_.container->carrier().upstreams(),
                        std::move(request_.dial),
                        [this](DialResult result) { Dialed(std::move(result)); });
  }
}

void HeldConnection::Hold(HeldEnd end) {
  const auto self = shared_from_this();
  end_.emplace(std::move(end));
  end_->pending->SetCancel([&worker = worker_, weak = weak_from_this()] {
    worker.Post([weak] {
      // Its session goes with the agent that ends: it is for the next one.
      const auto here = weak.lock();
      if (here != nullptr && !here->worker_.nursery().ending()) {
        here->Leave();
      }
    });
  });
  if (!end_->kept && request_.carry == policy::Carry::kProxy && !end_->client.waits) {
    worker_.nursery().Enter(*this);
  }
  switch (request_.carry) {
    case policy::Carry::kProxy:
      if (result_) {
        GoOn(std::move(*result_));
      } else {
        // After the proxy has been spoken to.
        timer_ = worker_.loop().AddTimer({}, [this] { end_->held.Prepare(); });
      }
      return;
    case policy::Carry::kChecked:
      return request_.make_far ? ConnectFar() : Complete();
    case policy::Carry::kResolver:
      return Complete();
    case policy::Carry::kDirect:
      break;
  }
  Fail(EACCES);
}

void HeldConnection::ConnectFar() {
  const int domain = request_.asked.ip.IsV4() ? AF_INET : AF_INET6;
  far_.fd = request_.make_far(domain);
  if (!far_.fd) {
    return FarConnected(errno);
  }
  PrepareRelayed(far_.fd.get());
  const SockaddrCopy address = WriteEndpoint(request_.asked, domain);
  const int error = connect(far_.fd.get(), address.get(), address.length) == 0 ? 0 : errno;
  if (error != EINPROGRESS) {
    return FarConnected(error);
  }
  // The kernel's own time limit is the program's.
  const auto waits = worker_.loop().Add(
      far_.fd.get(), EPOLLOUT, [this](uint32_t) { FarConnected(SocketError(far_.fd.get())); });
  watching_far_ = waits.has_value();
}

void HeldConnection::FarConnected(int error) {
  const auto self = shared_from_this();
  if (std::exchange(watching_far_, false)) {
    worker_.loop().Remove(far_.fd.get());
  }
  return error == 0 ? Complete() : Fail(error);
}

void HeldConnection::Dialed(DialResult result) {
  if (end_) {
    GoOn(std::move(result));
  } else {
    result_.emplace(std::move(result));
  }
}

void HeldConnection::GoOn(DialResult result) {
  if (result.failure) {
    end_->report.Failed(*result.failure);
    return Fail(result.failure->errno_value);
  }
  far_ = std::move(result.stream);
  const bool ending = worker_.nursery().ending();
  if ((ending || request_.container->carrier().kept_relays().KeepsAtOnce()) &&
      far_.tls == nullptr) {
    KeepRelay();
  }
  // The session may be gone already: then it stays held, for the next agent, which asks anew.
  if (relay_ || !ending) {
    Complete();
  }
}

void HeldConnection::KeepRelay() {
  relay_.emplace();
  relay_->owner = Owner();
  const auto keep = far_.in_tls_process ? TlsRelay::KeepAhead : Relay::KeepAhead;
  if (!keep(*relay_, end_->held.fd(), far_.fd.get())) {
    relay_.reset();
  }
}

void HeldConnection::Complete() {
  worker_.loop().RemoveTimer(timer_);
  const int error = end_->held.Complete(end_->client.address);
  if (error != EINPROGRESS) {
    return Completed(error);
  }
  // Over loopback the other half comes before connect(2) returns, unless the kernel has put off
  // what comes in.
  pollfd come = {end_->held.fd(), POLLOUT, 0};
  if (poll(&come, 1, 0) == 1) {
    return Completed(SocketError(end_->held.fd()));
  }
  const auto done = worker_.loop().Add(
      end_->held.fd(), EPOLLOUT, [this](uint32_t) { Completed(SocketError(end_->held.fd())); });
  watching_ = done.has_value();
  timer_ = worker_.loop().AddTimer(kCompletesWithin, [this] {
    timer_ = EventLoop::TimerId::kNone;
    Completed(ETIMEDOUT);
  });
}

void HeldConnection::Completed(int error) {
  const auto self = shared_from_this();
  if (watching_) {
    watching_ = false;
    worker_.loop().Remove(end_->held.fd());
  }
  if (error == 0) {
    Established();
  } else if (far_.fd) {
    // Nobody waits any more, or has reset it already: the other side is told so.
    const linger reset = {1, 0};
    (void)setsockopt(far_.fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  Leave();
}

void HeldConnection::Established() {
  worker_.nursery().Leave(*this);
  end_->held.Prepare();
  UniqueFd near = end_->held.Take();
  switch (request_.carry) {
    case policy::Carry::kProxy:
      if (relay_) {
        KeptRelay kept = std::move(*relay_);
        relay_.reset();
        kept.slot = std::move(request_.slot);
        kept.near = std::move(near);
        kept.far = std::move(far_);
        kept.far.in_tls_process ? TlsRelay::GoOn(worker_, std::move(kept))
                                : Relay::GoOn(worker_, std::move(kept));
      } else if (far_.in_tls_process) {
        TlsRelay::GoOn(worker_, {.kept = {},
                                 .slot = std::move(request_.slot),
                                 .near = std::move(near),
                                 .far = std::move(far_),
                                 .out_pipe = {},
                                 .in_pipe = {},
                                 .owner = Owner()});
      } else {
        Relay::Start(worker_, {.slot = std::move(request_.slot),
                               .near = std::move(near),
                               .far = std::move(far_),
                               .early = {},
                               .tap = {},
                               .owner = Owner()});
      }
      if (next_) {
        MakeReady(worker_, request_.container, std::move(*next_));
      }
      return;
    case policy::Carry::kResolver:
      // std::function wants what can be copied.
      (void)request_.container->WithResolver(
          [fd = std::make_shared<UniqueFd>(std::move(near)), dns = std::move(request_.dns),
           report = end_->report, slot = std::make_shared<RelaySlot>(std::move(request_.slot))](
              Worker&, Resolver& resolver) {
            resolver.Serve(std::move(*fd), dns, [report, slot](const DnsReply& reply) {
              if (reply.failure) {
                report.Failed(*reply.failure);
              }
            });
          });
      return;
    case policy::Carry::kChecked:
      if (far_.fd) {
        auto watch =
            std::make_shared<HandshakeWatch>(request_.container, request_.policy, end_->report);
        Relay::Start(worker_, {.slot = std::move(request_.slot),
                               .near = std::move(near),
                               .far = std::move(far_),
                               .early = {},
                               .tap = [watch](std::string_view bytes) { watch->Take(bytes); },
                               .owner = Owner()});
        return;
      }
      return CheckedConnection::Start(worker_, {.near = std::move(near),
                                                .container = request_.container,
                                                .policy = request_.policy,
                                                .slot = std::move(request_.slot),
                                                .dial = std::move(request_.dial),
                                                .report = end_->report,
                                                .owner = Owner()});
    case policy::Carry::kDirect:
      return;
  }
}

RelayOwner HeldConnection::Owner() const {
  return {request_.container, end_->report.session(), end_->client.cookie, request_.asked};
}

bool HeldConnection::KeepNow() {
  return end_->held.listener_fd() < 0 ||
         KeepHeld(end_->kept, *request_.container, end_->report.session(), end_->held, end_->client,
                  request_.asked) != KeptRelays::Result::kLater;
}

void HeldConnection::Unkeep() {
  worker_.nursery().Leave(*this);
  if (relay_) {
    relay_->kept.Forget();
    relay_.reset();
  }
  if (end_) {
    end_->kept.Forget();
  }
}

void HeldConnection::Fail(int error) {
  const auto self = shared_from_this();
  Unkeep();
  const int told = error != 0 ? error : ECONNREFUSED;
  request_.container->peers().Forget(end_->client.cookie);
  end_->pending->Fail(told);
  // What is done to the container's socket may have to wait for the container.
  const auto held = std::make_shared<HeldSocket>(std::move(end_->held));
  const auto fail = [container = request_.container, pending = end_->pending, held,
                     slot = std::make_shared<RelaySlot>(std::move(request_.slot)),
                     client = end_->client, told] {
    if (!pending->Reset()) {
      FailConnect(client, *held, told, container->carrier().own_netns());
    }
    container->pending().Remove(*pending);
  };
  if (request_.container->carrier().aside().Run(request_.container.get(), fail)) {
    return worker_.Drop(this);
  }
  // The port closes, and the next SYN is told so.
  Leave();
}

void HeldConnection::Leave() {
  const auto self = shared_from_this();
  Unkeep();
  if (end_) {
    request_.container->pending().Remove(*end_->pending);
  }
  worker_.Drop(this);
}

}  // namespace oakum::agent
