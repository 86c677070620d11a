#include "agent/calls/calls.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "agent/caller/message.h"

// Younger than the headers of Debian 12.
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace oakum::agent {

namespace {

constexpr int kSocketTypeMask = 0xf;             // include/linux/net.h, SOCK_TYPE_MASK
constexpr int kMaxInetProtocol = IPPROTO_MPTCP;  // less than IPPROTO_MAX

// What a kernel without the family or protocol says, so that programs fall back as they do there;
// raw sockets are refused as to a process without CAP_NET_RAW (raw(7)), and what no kernel makes
// gets the kernel's own answer.
int SocketError(int domain, int type, int protocol) {
  // In the order of __sys_socket(), __sock_create() and the family's own create().
  const int kind = type & kSocketTypeMask;
  if ((type & ~(kSocketTypeMask | SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) {
    return EINVAL;
  }
  if (domain >= 0 && domain < AF_MAX && kind > SOCK_PACKET) {
    return EINVAL;
  }
  switch (domain) {
    case AF_NETLINK:
      // A raw one is one like others (netlink(7)): libaudit makes those, and sshd lets nobody in on
      // any other errno than that of a kernel without auditing.
      return kind == SOCK_RAW || kind == SOCK_DGRAM ? EPROTONOSUPPORT : ESOCKTNOSUPPORT;
    case AF_PACKET:
      return EPERM;
    case AF_INET:
    case AF_INET6:
      break;
    default:
      return EAFNOSUPPORT;
  }
  if (protocol < 0 || protocol > kMaxInetProtocol) {
    return EINVAL;
  }
  switch (kind) {
    case SOCK_STREAM:
    case SOCK_DGRAM:
      return EPROTONOSUPPORT;
    case SOCK_RAW:
      return protocol == 0 ? EPROTONOSUPPORT : EPERM;
    default:
      return ESOCKTNOSUPPORT;
  }
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
      switch (type & kSocketTypeMask) {
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

Outcome RefuseSocket(const CallContext& context, const GuardedCall& call, int domain, int type,
                     int protocol) {
  const Ruling ruling =
      context.core.JudgeUnsupported(call, policy::Operation::kSocket,
                                    fmt::format("socket family {}, type {}, protocol {}", domain,
                                                type & kSocketTypeMask, protocol));
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue()
                                             : Answer::Error(SocketError(domain, type, protocol)));
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

void NoteBegin(const GuardedCall& call, JournalAct act, int number, const PinnedSocket& socket) {
  if (call.slot != nullptr) {
    call.Name(number);
    call.slot->Begin(act, 0, socket.cookie);
  }
}

int Pin(const CallContext& context, pid_t tid, int fd, PinnedSocket& out) {
  if (context.ahead != nullptr && context.ahead->number == fd && context.ahead->socket.fd) {
    out = std::move(context.ahead->socket);
    return 0;
  }
  if (const int error = context.descriptors.Get(tid, fd, out.fd); error != 0) {
    return error;
  }
  return context.descriptors.kinds().Read(out.fd.get(), out, out.cookie, context.uring);
}

Outcome HandleSocket(const CallContext& context, const GuardedCall& call, Arguments args) {
  // Registers only, so the kernel may carry it out: nobody can change them any more.
  const int domain = static_cast<int>(args[0]);
  const int type = static_cast<int>(args[1]);
  const int protocol = static_cast<int>(args[2]);
  if (IsPlainSocket(domain, type, protocol)) {
    return Outcome::Of(Answer::Continue());
  }
  return RefuseSocket(context, call, domain, type, protocol);
}

Outcome HandleIoUring(const CallContext& context, const GuardedCall& call) {
  const Ruling ruling =
      context.core.JudgeUnsupported(call, policy::Operation::kIoUring, "io_uring");
  return Outcome::Of(ruling == Ruling::kPass ? Answer::Continue() : Answer::Error(ENOSYS));
}

namespace {

Outcome HandleArguments(const CallContext& context, const GuardedCall& call, Arguments args) {
  switch (call.kind.call) {
    case Call::kConnect:
      return HandleConnect(context, call, args);
    case Call::kSendto:
      return HandleSendto(context, call, args);
    case Call::kSendmsg:
      return HandleSendmsg(context, call, args);
    case Call::kSendmmsg:
      return HandleSendmmsg(context, call, args);
    case Call::kRecvfrom:
      return HandleRecvfrom(context, call, args);
    case Call::kRecvmsg:
      return HandleRecvmsg(context, call, args);
    case Call::kRecvmmsg:
      return HandleRecvmmsg(context, call, args, !call.kind.compat);
    case Call::kRecvmmsgTime64:
      return HandleRecvmmsg(context, call, args, true);
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
    case Call::kGetpeername:
      return HandleGetpeername(context, call, args);
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

}  // namespace

Outcome Handle(const CallContext& context, const GuardedCall& call) {
  if (!call.kind.compat) {
    return HandleArguments(context, call, call.notification.args);
  }
  // 64-bit code that uses the 32-bit entry (int 0x80) can leave something in the upper halves: the
  // kernel does not look at them (SC_IA32_REGS_TO_ARGS, arch/x86), seccomp(2) shows them.
  uint64_t args[6] = {};
  std::ranges::transform(call.notification.args, args,
                         [](uint64_t arg) { return static_cast<uint32_t>(arg); });
  return HandleArguments(context, call, args);
}

}  // namespace oakum::agent
