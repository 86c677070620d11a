#include "agent/proxy/held_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "agent/proxy/checked_connection.h"
#include "agent/proxy/connect_failure.h"
#include "agent/proxy/relay.h"
#include "agent/proxy/tls_stream.h"

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

HeldConnection::~HeldConnection() {
  worker_.loop().RemoveTimer(timer_);
  if (watching_) {
    worker_.loop().Remove(request_.held.fd());
  }
}

void HeldConnection::Start(Worker& worker, HeldRequest request) {
  auto connection = std::make_shared<HeldConnection>(worker, std::move(request));
  worker.Post([&worker, connection] {
    worker.Keep(connection);
    connection->Begin();
  });
}

void HeldConnection::Begin() {
  request_.pending->SetCancel([&worker = worker_, weak = weak_from_this()] {
    worker.Post([weak] {
      if (const auto self = weak.lock(); self != nullptr) {
        self->Leave();
      }
    });
  });
  switch (request_.carry) {
    case policy::Carry::kProxy:
      dial_ = Dial::Start(worker_.loop(), request_.container->carrier().upstreams(),
                          std::move(request_.dial),
                          [this](DialResult result) { Dialed(std::move(result)); });
      return;
    case policy::Carry::kResolver:
    case policy::Carry::kChecked:
      return Complete();
    case policy::Carry::kDirect:
      break;
  }
  Fail(EACCES);
}

void HeldConnection::Dialed(DialResult result) {
  if (result.failure) {
    request_.report.Failed(*result.failure);
    return Fail(result.failure->errno_value);
  }
  far_ = std::move(result.stream);
  Complete();
}

void HeldConnection::Complete() {
  const int error = request_.held.Complete(request_.client.address);
  if (error != EINPROGRESS) {
    return Completed(error);
  }
  const auto done = worker_.loop().Add(request_.held.fd(), EPOLLOUT, [this](uint32_t) {
    Completed(SocketError(request_.held.fd()));
  });
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
    worker_.loop().Remove(request_.held.fd());
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
  UniqueFd near = request_.held.Take();
  switch (request_.carry) {
    case policy::Carry::kProxy:
      return Relay::Start(worker_, std::move(near), std::move(far_), {}, {});
    case policy::Carry::kResolver:
      // std::function wants what can be copied.
      (void)request_.container->WithResolver(
          [fd = std::make_shared<UniqueFd>(std::move(near)), dns = std::move(request_.dns),
           report = request_.report](Worker&, Resolver& resolver) {
            resolver.Serve(std::move(*fd), dns, [report](const DnsReply& reply) {
              if (reply.failure) {
                report.Failed(*reply.failure);
              }
            });
          });
      return;
    case policy::Carry::kChecked:
      return CheckedConnection::Start(worker_, {.near = std::move(near),
                                                .container = request_.container,
                                                .policy = request_.policy,
                                                .dial = std::move(request_.dial),
                                                .report = request_.report});
    case policy::Carry::kDirect:
      return;
  }
}

void HeldConnection::Fail(int error) {
  const auto self = shared_from_this();
  const int told = error != 0 ? error : ECONNREFUSED;
  if (!request_.pending->Fail(told)) {
    FailConnect(request_.client, request_.held, told, request_.container->carrier().own_netns());
  }
  request_.container->peers().Forget(request_.client.cookie);
  Leave();
}

void HeldConnection::Leave() {
  const auto self = shared_from_this();
  request_.container->pending().Remove(*request_.pending);
  worker_.Drop(this);
}

}  // namespace oakum::agent
