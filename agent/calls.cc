#include "agent/calls.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "agent/message.h"

// Younger than the headers of Debian 12.
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace oakum::agent {

namespace {

bool GetOption(int socket_fd, int option, int& out) {
  socklen_t length = sizeof out;
  return getsockopt(socket_fd, SOL_SOCKET, option, &out, &length) == 0;
}

}  // namespace

bool IsPlainSocket(int domain, int type, int protocol) {
  switch (domain) {
    case AF_UNIX:
      return true;
    case AF_NETLINK:
      return protocol == 0;
    case AF_INET:
    case AF_INET6:
      switch (type & 0xf) {
        case SOCK_STREAM:
          return protocol == 0 || protocol == IPPROTO_TCP;
        case SOCK_DGRAM:
          return protocol == 0 || protocol == IPPROTO_UDP ||
                 protocol == (domain == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
        default:
          return false;
      }
    default:
      return false;
  }
}

int SocketError(int domain, int type) {
  // The type of a netlink socket says nothing (netlink(7)): libaudit makes raw ones, and sshd lets
  // nobody in on any other errno than that of a kernel without auditing.
  if (domain == AF_NETLINK) {
    return EPROTONOSUPPORT;
  }
  if (domain == AF_PACKET || (type & 0xf) == SOCK_RAW) {
    return EPERM;
  }
  return domain == AF_INET || domain == AF_INET6 ? EPROTONOSUPPORT : EAFNOSUPPORT;
}

policy::Transport PinnedSocket::transport() const {
  switch (protocol) {
    case IPPROTO_TCP:
    case IPPROTO_MPTCP:
      return policy::Transport::kTcp;
    case IPPROTO_UDP:
      return policy::Transport::kUdp;
    default:
      return policy::Transport::kOther;
  }
}

int Pin(const CallContext& context, pid_t tid, int fd, PinnedSocket& out) {
  if (const int error = context.descriptors.Get(tid, fd, out.fd); error != 0) {
    return error;
  }
  if (!GetOption(out.fd.get(), SO_DOMAIN, out.domain) ||
      !GetOption(out.fd.get(), SO_TYPE, out.type) ||
      !GetOption(out.fd.get(), SO_PROTOCOL, out.protocol)) {
    return errno;  // ENOTSOCK, or EBADF for what was opened with O_PATH
  }
  return 0;
}

Outcome HandleSocket(const CallContext& context, const GuardedCall& call, Arguments args) {
  // Registers only, so the kernel may carry it out: nobody can change them any more.
  const int domain = static_cast<int>(args[0]);
  const int type = static_cast<int>(args[1]);
  const int protocol = static_cast<int>(args[2]);
  if (IsPlainSocket(domain, type, protocol)) {
    return Outcome::Of(Answer::Continue());
  }
  const Ruling ruling = context.core.JudgeUnsupported(
      call, policy::Operation::kSocket,
      fmt::format("socket family {}, type {}, protocol {}", domain, type & 0xf, protocol));
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue()
                                             : Answer::Error(SocketError(domain, type)));
}

Outcome HandleIoUring(const CallContext& context, const GuardedCall& call) {
  const Ruling ruling =
      context.core.JudgeUnsupported(call, policy::Operation::kIoUring, "io_uring");
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(ENOSYS));
}

Outcome Handle(const CallContext& context, const GuardedCall& call) {
  uint64_t args[6] = {};
  std::copy(std::begin(call.notification.args), std::end(call.notification.args), args);
  if (call.kind.compat) {
    // 64-bit code that uses the 32-bit entry (int 0x80) can leave something in the upper halves:
    // the kernel does not look at them (SC_IA32_REGS_TO_ARGS, arch/x86), seccomp(2) shows them.
    std::ranges::for_each(args, [](uint64_t& arg) { arg = static_cast<uint32_t>(arg); });
  }
  switch (call.kind.call) {
    case Call::kConnect:
      return HandleConnect(context, call, args);
    case Call::kSendto:
      return HandleSendto(context, call, args);
    case Call::kSendmsg:
      return HandleSendmsg(context, call, args);
    case Call::kSendmmsg:
      return HandleSendmmsg(context, call, args);
    case Call::kBind:
      return HandleBind(context, call, args);
    case Call::kListen:
      return HandleListen(context, call, args);
    case Call::kAccept:
      return HandleAccept(context, call, args, 0);
    case Call::kAccept4:
      return HandleAccept(context, call, args, static_cast<int>(args[3]));
    case Call::kSocket:
      return HandleSocket(context, call, args);
    case Call::kSetsockopt:
      return HandleSetsockopt(context, call, args);
    case Call::kSocketcall:
      return HandleSocketcall(context, call, args);
    case Call::kIoUringSetup:
    case Call::kIoUringEnter:
    case Call::kIoUringRegister:
      return HandleIoUring(context, call);
    case Call::kUnknown:
      break;
  }
  const Ruling ruling =
      context.core.JudgeUnsupported(call, policy::Operation::kSocket,
                                    fmt::format("system call {} of architecture {:#x}",
                                                call.notification.nr, call.notification.arch));
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(ENOSYS));
}

}  // namespace oakum::agent
