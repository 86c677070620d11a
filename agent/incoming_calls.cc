// bind(2), listen(2), accept(2): what comes in.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "agent/calls.h"
#include "agent/identity.h"
#include "agent/message.h"
#include "agent/sockaddr.h"

namespace oakum::agent {

namespace {

constexpr uint16_t kFirstUnprivilegedPort = 1024;  // PROT_SOCK

policy::Endpoint LocalEndpoint(int socket_fd) {
  SockaddrCopy address;
  address.length = sizeof address.storage;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return {};
  }
  return ReadConnectAddress(address, address.storage.ss_family).endpoint;
}

Outcome FromRuling(Ruling ruling) {
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(EACCES));
}

int BindOnce(int socket_fd, const SockaddrCopy& address) {
  return bind(socket_fd, address.get(), address.length) == 0 ? 0 : errno;
}

// A unix path is created where the caller would create it, with its ids and its umask: a thread of
// its own goes to the caller's root and working directory, so that the name that others see is the
// one that was given.
int BindUnixPath(pid_t tid, int socket_fd, const SockaddrCopy& address) {
  const auto status = ReadTaskStatus(tid);
  const UniqueFd root(open(fmt::format("/proc/{}/root", tid).c_str(), O_PATH | O_CLOEXEC));
  const UniqueFd cwd(open(fmt::format("/proc/{}/cwd", tid).c_str(), O_PATH | O_CLOEXEC));
  if (!status || !root || !cwd) {
    return EACCES;
  }
  const bool same_namespace = InOwnUserNamespace(tid);
  int error = EACCES;
  std::thread([&] {
    // The caller is in its working directory already, whoever else may go there.
    SetEffectiveCapabilities(CapabilityBit(CAP_SYS_CHROOT) | CapabilityBit(CAP_DAC_READ_SEARCH) |
                             kPerformerCapabilities);
    if (unshare(CLONE_FS) != 0 || fchdir(root.get()) != 0 || chroot(".") != 0 ||
        fchdir(cwd.get()) != 0) {
      error = errno;
      return;
    }
    umask(status->umask);
    const ScopedIdentity identity(
        *status, same_namespace,
        CapabilityBit(CAP_DAC_OVERRIDE) | CapabilityBit(CAP_DAC_READ_SEARCH),
        kPerformerCapabilities);
    error = identity.ok() ? BindOnce(socket_fd, address) : EPERM;
  }).join();
  return error;
}

int BindInet(pid_t tid, int socket_fd, const SockaddrCopy& address, uint16_t port) {
  if (port == 0 || port >= kFirstUnprivilegedPort) {
    return BindOnce(socket_fd, address);
  }
  if (!MayBindPort(tid, socket_fd, port)) {
    return EACCES;
  }
  const ScopedCapabilities raised(CapabilityBit(CAP_NET_BIND_SERVICE) | kPerformerCapabilities,
                                  kPerformerCapabilities);
  return BindOnce(socket_fd, address);
}

// One accept(2): peers that the policy does not allow are closed before the program sees them.
class AcceptOperation final : public Operation {
 public:
  AcceptOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call, PinnedSocket socket,
                  uint64_t address, uint64_t length_address, int flags)
      : core_(std::move(core)),
        call_(call),
        socket_(std::move(socket)),
        address_(address),
        length_address_(length_address),
        flags_(flags),
        may_wait_((fcntl(socket_.fd.get(), F_GETFL) & O_NONBLOCK) == 0) {}

  std::optional<Answer> Step(const Stepper& stepper) override {
    for (int closed = 0; closed < kMaxRefusedPerStep; ++closed) {
      SockaddrCopy peer;
      peer.length = sizeof peer.storage;
      const int result = AcceptOne(stepper, peer);
      if (result == -EAGAIN && may_wait_) {
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
    return may_wait_ ? std::nullopt : std::optional(Answer::Error(EAGAIN));
  }
  Wait wait() const override { return {EPOLLIN, {}}; }
  int socket_fd() const override { return socket_.fd.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.fd.get(), SO_RCVTIMEO);
  }
  UniqueFd TakeSocket() { return std::move(socket_.fd); }

 private:
  static constexpr int kMaxRefusedPerStep = 64;

  // A descriptor, or minus an errno value; -EAGAIN where it would wait.
  int AcceptOne(const Stepper& stepper, SockaddrCopy& peer) {
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
      policy::InetRequest request;
      request.operation = policy::Operation::kAccept;
      request.transport = socket_.transport();
      request.local = LocalEndpoint(accepted.get());
      request.remote = ReadConnectAddress(peer, socket_.domain).endpoint;
      if (core_->Judge(call_, request) == Ruling::kRefuse) {
        // Reset rather than closed: the peer sees at once that nobody is there.
        const linger reset = {1, 0};
        (void)setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        return std::nullopt;
      }
    }
    if (const int error = WritePeer(peer); error != 0) {
      return Answer::Performed(0, error);
    }
    Answer answer;
    answer.kind = Answer::Kind::kFd;
    answer.fd = std::move(accepted);
    answer.fd_flags = (flags_ & SOCK_CLOEXEC) != 0 ? O_CLOEXEC : 0;
    answer.performed = true;
    return answer;
  }

  // move_addr_to_user(), net/socket.c: as much as there is room for, and the whole length.
  int WritePeer(const SockaddrCopy& peer) {
    if (address_ == 0) {
      return 0;
    }
    const pid_t tid = call_.notification.tid;
    int32_t room = 0;
    if (ReadMemory(tid, length_address_, &room, sizeof room) != sizeof room) {
      return EFAULT;
    }
    if (room < 0) {
      return EINVAL;
    }
    const auto length = static_cast<int32_t>(peer.length);
    const auto size = static_cast<size_t>(std::min(room, length));
    if (!core_->notify().IdValid(call_.notification.id)) {
      return 0;  // nobody waits: the descriptor is kept for a replay
    }
    return WriteMemory(tid, address_, &peer.storage, size) &&
                   WriteMemory(tid, length_address_, &length, sizeof length)
               ? 0
               : EFAULT;
  }

  const std::shared_ptr<SessionCore> core_;
  const GuardedCall call_;
  PinnedSocket socket_;
  const uint64_t address_;
  const uint64_t length_address_;
  const int flags_;
  const bool may_wait_;
};

}  // namespace

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
  const Destination local = ReadSendOrBindAddress(address, socket.domain);
  Ruling ruling = context.core.Audits() ? Ruling::kPass : Ruling::kPerform;
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
  if (local.kind == Destination::Kind::kInet) {
    error = BindInet(tid, socket.fd.get(), address, local.endpoint.port);
  } else if (local.kind == Destination::Kind::kUnixPath) {
    error = BindUnixPath(tid, socket.fd.get(), address);
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
  Ruling ruling = context.core.Audits() ? Ruling::kPass : Ruling::kPerform;
  if (socket.is_inet()) {
    ruling = context.core.Judge(
        call, {policy::Operation::kListen, socket.transport(), {}, LocalEndpoint(socket.fd.get())});
  }
  if (ruling != Ruling::kPerform) {
    return FromRuling(ruling);
  }
  // Who connects to a unix socket sees the ids of whoever called listen(2) (SO_PEERCRED).
  int error = 0;
  if (socket.domain == AF_UNIX) {
    const auto status = ReadTaskStatus(tid);
    if (!status) {
      return Outcome::Of(Answer::Error(EACCES));
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
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) {
    return Outcome::Of(Answer::Error(EINVAL));
  }
  PinnedSocket socket;
  if (const int error = Pin(context, call.notification.tid, static_cast<int>(args[0]), socket);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (context.core.Audits()) {
    // The peer is not known before the kernel has accepted it; the listening address is reported.
    if (socket.is_inet()) {
      (void)context.core.Judge(
          call,
          {policy::Operation::kListen, socket.transport(), {}, LocalEndpoint(socket.fd.get())});
    }
    return Outcome::Of(Answer::Continue());
  }
  auto operation = std::make_unique<AcceptOperation>(context.core.shared_from_this(), call,
                                                     std::move(socket), args[1], args[2], flags);
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket());
}

}  // namespace oakum::agent
