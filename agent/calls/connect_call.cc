// connect(2): copied, decided on the copy and the pinned socket, performed here.
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "agent/caller/message.h"
#include "agent/caller/netns.h"
#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"
#include "agent/calls/inet_destination.h"
#include "agent/calls/unix_peer.h"
#include "agent/proxy/carried_connect.h"
#include "agent/proxy/tcp_socket.h"

namespace oakum::agent {

namespace {

int ConnectOnce(int socket_fd, const SockaddrCopy& address) {
  return connect(socket_fd, address.get(), address.length) == 0 ? 0 : errno;
}

// A blocking stream socket whose connection is being established. The socket itself remembers how
// far it is, so a caller that is interrupted and calls again finds EALREADY and waits on, as
// natively (connect(2), POSIX "EINTR").
class ConnectOperation final : public Operation {
 public:
  ConnectOperation(UniqueFd socket, const SockaddrCopy& address, bool threads)
      : socket_(std::move(socket)), address_(address), threads_(threads) {}

  std::optional<Answer> Step(const Stepper& stepper) override {
    if (TcpState(socket_.get()) == TCP_CLOSE) {
      // Calling connect(2) again would start an attempt if another thread of the container has
      // already been told, or has shut the socket down.
      return Answer::Performed(0, EndFailedConnect(socket_.get()));
    }
    // Without io_uring a second connect(2) could wait, if the container meanwhile reset the socket.
    const int result = stepper.uring != nullptr
                           ? stepper.uring->Connect(socket_.get(), address_.get(), address_.length)
                           : EINPROGRESS;
    if (result == EINPROGRESS || result == EALREADY) {
      return std::nullopt;
    }
    // Another thread of the container that waited for the same connection may have been told first.
    return Answer::Performed(0, result == EISCONN ? 0 : result);
  }

  Answer RunBlocking() override {
    return Answer::Performed(0, ConnectOnce(socket_.get(), address_));
  }
  bool needs_thread() const override { return threads_; }
  Wait wait() const override { return {EPOLLOUT, {}}; }
  int socket_fd() const override { return socket_.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.get(), SO_SNDTIMEO);
  }
  Answer TimedOut() override { return Answer::Performed(0, EINPROGRESS); }

 private:
  const UniqueFd socket_;
  const SockaddrCopy address_;
  const bool threads_;
};

// What a socket was carried to ends with connect(2) to AF_UNSPEC. EALREADY while the agent speaks
// on it; every other address is for those who decide on it.
int LeaveCarried(const CallContext& context, const PinnedSocket& socket,
                 const SockaddrCopy& address) {
  const bool leaves = socket.is_inet() && socket.is_stream() &&
                      address.length >= sizeof(sa_family_t) &&
                      address.storage.ss_family == AF_UNSPEC;
  // Whatever the policy says today: an earlier one may have carried it.
  if (!leaves) {
    return 0;
  }
  const auto& carried = context.carried();
  if (carried->carrier().direct().Busy(socket.fd.get())) {
    return EALREADY;
  }
  carried->pending().Drop(socket.cookie);
  carried->LeadsNowhere(socket.cookie);
  return 0;
}

// A port of loopback where the agent holds a connection for another socket.
bool LeadsToTheAgent(const CallContext& context, const PinnedSocket& socket,
                     const Destination& destination) {
  const OwnPorts& ports = context.core.container()->carrier().own_ports();
  return socket.is_stream() && !ports.empty() && IsLoopback(destination.endpoint.ip) &&
         ports.Has(NetworkCookie(socket.fd.get()), destination.endpoint.port);
}

Outcome Perform(const CallContext& context, const GuardedCall& call, int number,
                PinnedSocket socket, const SockaddrCopy& address) {
  NoteBegin(call, JournalAct::kConnect, number, socket);
  // Only a stream socket in blocking mode can wait; resetting one (AF_UNSPEC) never does.
  const bool may_wait = socket.is_stream() && address.length >= sizeof(sa_family_t) &&
                        address.storage.ss_family != AF_UNSPEC &&
                        (fcntl(socket.fd.get(), F_GETFL) & O_NONBLOCK) == 0;
  if (!may_wait) {
    const int error = ConnectOnce(socket.fd.get(), address);
    if (error == 0 && !context.core.container()->datagrams->empty()) {
      // What it was connected to by way of a gate it is not any more.
      context.carried()->LeadsNowhere(socket.cookie);
    }
    Answer answer = Answer::Performed(0, error);
    answer.harmless = !socket.is_stream();
    return Outcome::Of(std::move(answer), std::move(socket.fd));
  }
  if (context.uring == nullptr) {
    return Outcome::Of(std::make_unique<ConnectOperation>(std::move(socket.fd), address, true));
  }
  const int error = context.uring->Connect(socket.fd.get(), address.get(), address.length);
  // EALREADY: another thread of the container is connecting this socket; a blocking call joins it.
  if (error == EINPROGRESS || error == EALREADY) {
    return Outcome::Of(std::make_unique<ConnectOperation>(std::move(socket.fd), address, false));
  }
  return Outcome::Of(Answer::Performed(0, error), std::move(socket.fd));
}

}  // namespace

int EndFailedConnect(int socket_fd) {
  const int error = TakeSocketError(socket_fd);
  sockaddr unspecified = {};
  unspecified.sa_family = AF_UNSPEC;
  (void)connect(socket_fd, &unspecified, sizeof unspecified);
  return error != 0 ? error : ECONNABORTED;
}

Outcome HandleConnect(const CallContext& context, const GuardedCall& call, Arguments args) {
  const pid_t tid = call.notification.tid;
  const int number = static_cast<int>(args[0]);
  PinnedSocket socket;
  const int pinned = Pin(context, tid, number, socket);
  if (pinned != 0 && pinned != ENOTSOCK) {  // which comes after the address
    return Outcome::Of(Answer::Error(pinned));
  }
  context.core.LookForMark(call);
  SockaddrCopy address;
  if (const int error =
          ReadSockaddr(tid, args[1], static_cast<int32_t>(args[2]), address, call.mark);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (pinned != 0) {
    return Outcome::Of(Answer::Error(pinned));
  }
  Destination destination = ReadConnectAddress(address, socket);
  if (const int error = LeaveCarried(context, socket, address); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  Judged judged;
  Ruling ruling = context.Audits() ? Ruling::kPass : Ruling::kPerform;
  switch (destination.kind) {
    case Destination::Kind::kNone:
    case Destination::Kind::kNetlink:
      break;
    case Destination::Kind::kInet:
      if (LeadsToTheAgent(context, socket, destination)) {
        (void)context.core.JudgeUnsupported(call, policy::Operation::kConnect,
                                            "a port that the agent holds");
        return Outcome::Of(Answer::Error(ECONNREFUSED));
      }
      ruling = JudgeInet(context, call, policy::Operation::kConnect, socket, address, destination,
                         judged);
      break;
    case Destination::Kind::kUnixPath:
    case Destination::Kind::kUnixAbstract:
      NoteBegin(call, JournalAct::kConnectUnix, number, socket);
      return ConnectUnix(context, call, std::move(socket), destination, address);
    case Destination::Kind::kOther:
      ruling = context.core.JudgeUnsupported(call, policy::Operation::kConnect,
                                             fmt::format("socket family {}", socket.domain));
      break;
  }
  switch (ruling) {
    case Ruling::kPass:
      return Outcome::Of(Answer::Continue());
    case Ruling::kRefuse:
      return Outcome::Of(Answer::Error(EACCES));
    case Ruling::kCarry:
      NoteBegin(call, JournalAct::kCarry, number, socket);
      return ConnectCarried(context, call,
                            {std::move(socket), number, address, destination, std::move(judged)});
    case Ruling::kPerform:
      break;
  }
  return Perform(context, call, number, std::move(socket), address);
}

}  // namespace oakum::agent
