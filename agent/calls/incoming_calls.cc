// bind(2), listen(2), accept(2): what comes in.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/caller/identity.h"
#include "agent/caller/message.h"
#include "agent/caller/netns.h"
#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"
#include "agent/calls/unix_bind.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

policy::Endpoint LocalEndpoint(int socket_fd) {
  SockaddrCopy address;
  address.length = sizeof address.storage;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return {};
  }
  return ReadEndpoint(address);
}

Outcome FromRuling(Ruling ruling) {
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(EACCES));
}

int BindOnce(int socket_fd, const SockaddrCopy& address) {
  return bind(socket_fd, address.get(), address.length) == 0 ? 0 : errno;
}

// The owner of a user namespace has all capabilities in it, effective or not (user_namespaces(7)):
// that is an ordinary user's agent to networks of rootless containers. The kernel would not ask for
// the caller's there.
bool IsDecidedByOwnership(int socket_fd, const SockaddrCopy& address) {
  constexpr uint16_t kFirstUnprivileged = 1024;  // ip-sysctl.rst, ip_unprivileged_port_start
  // At the same place in both families, and AF_UNSPEC stands for AF_INET (inet_bind_sk()).
  sockaddr_in head = {};
  if (address.length >= sizeof head) {
    memcpy(&head, &address.storage, sizeof head);
  }
  const uint16_t port = ntohs(head.sin_port);
  return geteuid() != 0 && port != 0 && port < kFirstUnprivileged &&
         NetworkCookie(socket_fd) != OwnNetworkCookie();
}

// The kernel decides with the agent's rights taken off: ip_unprivileged_port_start of the socket's
// network namespace (ip-sysctl.rst). Only where it wants CAP_NET_BIND_SERVICE (EACCES) it matters
// whether the caller has that.
int BindInet(const CallContext& context, const GuardedCall& call, int socket_fd,
             const SockaddrCopy& address) {
  const int error =
      IsDecidedByOwnership(socket_fd, address) ? EACCES : BindOnce(socket_fd, address);
  if (error != EACCES) {
    return error;
  }
  const pid_t tid = call.notification.tid;
  const auto status = ReadTaskStatus(tid);
  if (!status || !MayBindPrivilegedPort(tid, *status, socket_fd) ||
      !context.core.notify().IdValid(call.notification.id)) {
    return EACCES;
  }
  const ScopedCapabilities raised(CapabilityBit(CAP_NET_BIND_SERVICE) | kPerformerCapabilities,
                                  kPerformerCapabilities);
  return BindOnce(socket_fd, address);
}

int BindUnix(const CallContext& context, const GuardedCall& call, int socket_fd,
             const SockaddrCopy& address) {
  const pid_t tid = call.notification.tid;
  const auto caller = LookAtCaller(tid);
  if (!caller || !context.core.notify().IdValid(call.notification.id)) {
    return EACCES;
  }
  return BindUnixPath(*caller, socket_fd, address);
}

// listen(2) gives a socket that was not bound a port of the kernel's choice. So that the port which
// is decided on is the one that it listens on, it is bound first; what was bound to an address
// without a port (ip(7), IP_BIND_ADDRESS_NO_PORT) keeps the address.
policy::Endpoint ListeningEndpoint(int socket_fd) {
  policy::Endpoint local = LocalEndpoint(socket_fd);
  SockaddrCopy own;
  own.length = sizeof own.storage;
  if (local.port != 0 ||
      getsockname(socket_fd, reinterpret_cast<sockaddr*>(&own.storage), &own.length) != 0) {
    return local;
  }
  int no_port = 0;
  socklen_t length = sizeof no_port;
  const int off = 0;
  if (getsockopt(socket_fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &no_port, &length) == 0 &&
      no_port != 0) {
    (void)setsockopt(socket_fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &off, sizeof off);
  }
  (void)BindOnce(socket_fd, own);
  return LocalEndpoint(socket_fd);
}

// One accept(2): peers that the policy does not allow are closed before the program sees them.
class AcceptOperation final : public Operation {
 public:
  // `status`: the caller's, whose user will own what is accepted.
  AcceptOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call, PinnedSocket socket,
                  TaskStatus status, uint64_t address, uint64_t length_address, int flags)
      : core_(std::move(core)),
        call_(call),
        socket_(std::move(socket)),
        status_(std::move(status)),
        address_(address),
        length_address_(length_address),
        flags_(flags),
        may_wait_((fcntl(socket_.fd.get(), F_GETFL) & O_NONBLOCK) == 0) {}

  std::optional<Answer> Step(const Stepper& stepper) override {
    // A caller that has left must not take a peer from those who still wait for one.
    if (!core_->notify().IdValid(call_.notification.id)) {
      return Answer::None();
    }
    for (int closed = 0; closed < kMaxRefusedPerStep; ++closed) {
      SockaddrCopy peer;
      peer.length = sizeof peer.storage;
      const int result = AcceptOne(stepper, peer);
      // Without room for another descriptor the agent leaves the peer where it is, for a while.
      short_ = IsShortage(-result);
      if ((result == -EAGAIN && may_wait_) || (short_ && tries_++ < kMostTries)) {
        return std::nullopt;
      }
      if (result < 0) {
        return Answer::Performed(0, -result);
      }
      UniqueFd accepted(result);
      if (auto answer = Take(std::move(accepted), peer); answer) {
        return answer;
      }
    }
    // More of them wait: a call that may not wait goes on with them as well, for EAGAIN says that
    // nobody is left, and a program that waits for an edge (epoll(7)) would not ask again.
    return std::nullopt;
  }
  Wait wait() const override {
    if (short_) {
      return {0, std::chrono::milliseconds(kShortageRetry)};
    }
    return {EPOLLIN, std::chrono::milliseconds(may_wait_ ? 0 : kNextTry)};
  }
  int socket_fd() const override { return socket_.fd.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.fd.get(), SO_RCVTIMEO);
  }
  UniqueFd TakeSocket() { return std::move(socket_.fd); }

 private:
  static constexpr int kMaxRefusedPerStep = 64;
  static constexpr int kNextTry = 1;         // milliseconds; somebody else may have taken the rest
  static constexpr int kShortageRetry = 10;  // milliseconds
  static constexpr int kMostTries = 1000;

  // A descriptor, or minus an errno value; -EAGAIN where it would wait.
  int AcceptOne(const Stepper& stepper, SockaddrCopy& peer) {
    if (!socket_.is_inet() || status_.euid == geteuid()) {
      return AcceptAs(stepper, peer);
    }
    // The user of an internet socket shows in /proc/net/tcp and to the container's own firewall
    // (sock_graft(), net/core/sock.h).
    const ScopedIdentity identity(status_, false, 0, kPerformerCapabilities);
    return identity.ok() ? AcceptAs(stepper, peer) : -EPERM;
  }
  int AcceptAs(const Stepper& stepper, SockaddrCopy& peer) {
    if (!may_wait_) {
      return AcceptNow(peer);
    }
    if (stepper.uring != nullptr) {
      return stepper.uring->Accept(socket_.fd.get(), reinterpret_cast<sockaddr*>(&peer.storage),
                                   &peer.length, AcceptFlags());
    }
    if (!IsListening()) {
      return AcceptNow(peer);  // EINVAL or EOPNOTSUPP, at once
    }
    // Somebody else may take the connection between poll and accept.
    pollfd ready = {socket_.fd.get(), POLLIN, 0};
    return stepper.may_block && poll(&ready, 1, 0) == 1 ? AcceptNow(peer) : -EAGAIN;
  }
  [[nodiscard]] bool IsListening() const {
    int listening = 0;
    socklen_t length = sizeof listening;
    return getsockopt(socket_.fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 &&
           listening != 0;
  }
  int AcceptNow(SockaddrCopy& peer) {
    const int fd = accept4(socket_.fd.get(), reinterpret_cast<sockaddr*>(&peer.storage),
                           &peer.length, AcceptFlags());
    return fd >= 0 ? fd : -errno;
  }
  [[nodiscard]] int AcceptFlags() const { return (flags_ & SOCK_NONBLOCK) | SOCK_CLOEXEC; }

  // Nothing when the peer was refused and closed.
  std::optional<Answer> Take(UniqueFd accepted, const SockaddrCopy& peer) {
    if (socket_.is_inet()) {
      // Peers come for as long as it waits: each is decided under what holds then.
      call_.source = core_->source();
      policy::InetRequest request;
      request.operation = policy::Operation::kAccept;
      request.transport = socket_.transport();
      request.local = LocalEndpoint(accepted.get());
      request.remote = ReadEndpoint(peer);
      if (core_->Judge(call_, request) == Ruling::kRefuse) {
        // Reset rather than closed: the peer sees at once that nobody is there.
        const linger reset = {1, 0};
        (void)setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        return std::nullopt;
      }
    }
    Answer answer;
    PeerName name{peer, address_, length_address_};
    const auto written = WritePeer(*core_, call_, name);
    if (written.value_or(0) != 0) {
      return Answer::Performed(0, *written);
    }
    if (!written) {
      answer.unwritten = std::make_unique<PeerName>(std::move(name));
    }
    answer.kind = Answer::Kind::kFd;
    answer.fd = std::move(accepted);
    answer.fd_flags = (flags_ & SOCK_CLOEXEC) != 0 ? O_CLOEXEC : 0;
    answer.performed = true;
    return answer;
  }

  const std::shared_ptr<SessionCore> core_;
  GuardedCall call_;
  PinnedSocket socket_;
  const TaskStatus status_;
  const uint64_t address_;
  const uint64_t length_address_;
  const int flags_;
  const bool may_wait_;
  bool short_ = false;
  int tries_ = 0;
};

}  // namespace

std::optional<int> WritePeer(const SessionCore& core, const GuardedCall& call,
                             const PeerName& peer) {
  if (peer.address == 0) {
    return 0;
  }
  const pid_t tid = call.notification.tid;
  int32_t room = 0;
  const bool readable = ReadMemory(tid, peer.length_address, &room, sizeof room) == sizeof room;
  if (!core.notify().IdValid(call.notification.id)) {
    return std::nullopt;
  }
  if (!readable) {
    return EFAULT;
  }
  if (room < 0) {
    return EINVAL;
  }
  // move_addr_to_user(), net/socket.c: as much as there is room for, and the whole length.
  const auto length = static_cast<int32_t>(peer.name.length);
  const auto size = static_cast<size_t>(std::min(room, length));
  return WriteMemory(tid, peer.address, &peer.name.storage, size) &&
                 WriteMemory(tid, peer.length_address, &length, sizeof length)
             ? 0
             : EFAULT;
}

Outcome HandleBind(const CallContext& context, const GuardedCall& call, Arguments args) {
  const pid_t tid = call.notification.tid;
  PinnedSocket socket;
  if (const int error = Pin(context, tid, static_cast<int>(args[0]), socket); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  SockaddrCopy address;
  if (const int error = ReadSockaddr(tid, args[1], static_cast<int32_t>(args[2]), address);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  const Destination local = ReadBindAddress(address, socket);
  Ruling ruling = context.Audits() ? Ruling::kPass : Ruling::kPerform;
  switch (local.kind) {
    case Destination::Kind::kNone:
    case Destination::Kind::kNetlink:
    case Destination::Kind::kUnixAbstract:
    case Destination::Kind::kUnixPath:
      break;
    case Destination::Kind::kInet:
      ruling = context.core.Judge(
          call, {policy::Operation::kBind, socket.transport(), {}, local.endpoint});
      break;
    case Destination::Kind::kOther:
      ruling = context.core.JudgeUnsupported(call, policy::Operation::kBind,
                                             fmt::format("socket family {}", socket.domain));
      break;
  }
  if (ruling != Ruling::kPerform) {
    return FromRuling(ruling);
  }
  int error = 0;
  NoteBegin(call, JournalAct::kBind, static_cast<int>(args[0]), socket);
  if (local.kind == Destination::Kind::kInet) {
    error = BindInet(context, call, socket.fd.get(), address);
  } else if (local.kind == Destination::Kind::kUnixPath) {
    error = BindUnix(context, call, socket.fd.get(), address);
  } else {
    error = BindOnce(socket.fd.get(), address);
  }
  return Outcome::Of(Answer::Performed(0, error), std::move(socket.fd));
}

Outcome HandleListen(const CallContext& context, const GuardedCall& call, Arguments args) {
  PinnedSocket socket;
  const pid_t tid = call.notification.tid;
  if (const int error = Pin(context, tid, static_cast<int>(args[0]), socket); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  const bool audits = context.Audits();
  Ruling ruling = audits ? Ruling::kPass : Ruling::kPerform;
  if (socket.is_inet()) {
    const policy::Endpoint local = audits || !socket.is_stream()
                                       ? LocalEndpoint(socket.fd.get())
                                       : ListeningEndpoint(socket.fd.get());
    ruling = context.core.Judge(call, {policy::Operation::kListen, socket.transport(), {}, local});
  }
  if (ruling != Ruling::kPerform) {
    return FromRuling(ruling);
  }
  // Who connects to a unix socket sees the ids of whoever called listen(2) (SO_PEERCRED).
  int error = 0;
  if (socket.domain == AF_UNIX) {
    const auto status = ReadTaskStatus(tid);
    if (!status || !context.core.notify().IdValid(call.notification.id)) {
      return Outcome::Of(Answer::Error(EACCES));
    }
    if (context.core.container()->native_unix.AllowsListen(tid, *status) &&
        context.core.notify().IdValid(call.notification.id)) {
      return Outcome::Of(Answer::Continue());  // clients see the caller's process id as well
    }
    const ScopedIdentity identity(*status, false, 0, kPerformerCapabilities);
    error = !identity.ok()                                            ? EPERM
            : listen(socket.fd.get(), static_cast<int>(args[1])) == 0 ? 0
                                                                      : errno;
  } else {
    error = listen(socket.fd.get(), static_cast<int>(args[1])) == 0 ? 0 : errno;
  }
  return Outcome::Of(Answer::Performed(0, error), std::move(socket.fd));
}

Outcome HandleAccept(const CallContext& context, const GuardedCall& call, Arguments args,
                     int flags) {
  PinnedSocket socket;
  const int pinned = Pin(context, call.notification.tid, static_cast<int>(args[0]), socket);
  if (pinned != 0 && pinned != ENOTSOCK) {
    return Outcome::Of(Answer::Error(pinned));
  }
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) {
    return Outcome::Of(Answer::Error(EINVAL));
  }
  if (pinned != 0) {
    return Outcome::Of(Answer::Error(pinned));
  }
  auto status = ReadTaskStatus(call.notification.tid);
  if (!status || !context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (context.Audits()) {
    // The peer is not known before the kernel has accepted it; the listening address is reported.
    if (socket.is_inet()) {
      (void)context.core.Judge(
          call,
          {policy::Operation::kListen, socket.transport(), {}, LocalEndpoint(socket.fd.get())});
    }
    return Outcome::Of(Answer::Continue());
  }
  auto operation =
      std::make_unique<AcceptOperation>(context.core.shared_from_this(), call, std::move(socket),
                                        std::move(*status), args[1], args[2], flags);
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket());
}

}  // namespace oakum::agent
