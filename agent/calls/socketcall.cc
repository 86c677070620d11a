// socketcall(2): the 32-bit multiplexer, whose arguments lie in memory.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/net.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "agent/caller/identity.h"
#include "agent/caller/netns.h"
#include "agent/calls/calls.h"

namespace oakum::agent {

namespace {

// How many 32-bit arguments each call has; the numbers are SYS_SOCKET and so on of linux/net.h.
constexpr std::array<uint8_t, 21> kArgumentCounts = {0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4,
                                                     6, 6, 2, 5, 5, 3, 3, 4, 5, 4};

// A socket in the caller's network namespace: its arguments were in memory, so the kernel may not
// read them a second time. The descriptor is installed by the answer.
Outcome MakeSocket(const CallContext& context, const GuardedCall& call, Arguments args) {
  const int domain = static_cast<int>(args[0]);
  const int type = static_cast<int>(args[1]);
  const int protocol = static_cast<int>(args[2]);
  if (!IsPlainSocket(domain, type, protocol)) {
    return RefuseSocket(context, call, domain, type, protocol);
  }
  if (context.Audits()) {
    return Outcome::Of(Answer::Continue());
  }
  const pid_t tid = call.notification.tid;
  const auto status = ReadTaskStatus(tid);
  const UniqueFd theirs(open(fmt::format("/proc/{}/ns/net", tid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!status || !theirs || !context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::Error(ENOMEM));
  }
  Answer answer;
  const auto entered = WithNetwork(theirs.get(), [&] {
    const ScopedIdentity identity(*status, false, 0, kPerformerCapabilities);
    answer.fd.Reset(identity.ok() ? socket(domain, type | SOCK_CLOEXEC, protocol) : -1);
    answer.error = answer.fd ? 0 : errno;
  });
  if (!entered) {
    return Outcome::Of(Answer::Error(EPERM));
  }
  if (answer.fd) {
    answer.kind = Answer::Kind::kFd;
    answer.performed = true;
    answer.fd_flags = (type & SOCK_CLOEXEC) != 0 ? O_CLOEXEC : 0;
  }
  return Outcome::Of(std::move(answer));
}

}  // namespace

Outcome HandleSocketcall(const CallContext& context, const GuardedCall& call, Arguments args) {
  // The number of the call is a register: what is carried out natively stays that call, whatever
  // becomes of its arguments.
  const auto number = static_cast<uint32_t>(args[0]);
  const policy::Policy* policy = context.policy();
  const bool guards_incoming = policy == nullptr || policy->guards_incoming();
  switch (number) {
    case SYS_BIND:
    case SYS_LISTEN:
    case SYS_ACCEPT:
    case SYS_ACCEPT4:
      if (!guards_incoming) {
        return Outcome::Of(Answer::Continue());
      }
      break;
    case SYS_RECVFROM:
    case SYS_RECVMSG:
    case SYS_RECVMMSG:
      if (context.core.container()->datagrams->empty() &&
          (policy == nullptr || !policy->carries_datagrams())) {
        return Outcome::Of(Answer::Continue());
      }
      break;
    case SYS_SOCKET:
    case SYS_CONNECT:
    case SYS_SENDTO:
    case SYS_SENDMSG:
    case SYS_SENDMMSG:
    case SYS_SETSOCKOPT:
    case SYS_GETPEERNAME:  // a socket may have been carried under an earlier policy
      break;
    default:
      // No destination: socketpair, send, recv, names, or no call at all (EINVAL).
      return Outcome::Of(Answer::Continue());
  }
  std::array<uint32_t, 6> raw{};
  const size_t size = kArgumentCounts[number] * sizeof(uint32_t);
  if (ReadMemory(call.notification.tid, args[1], raw.data(), size) != size) {
    return Outcome::Of(Answer::Error(EFAULT));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  uint64_t inner[6] = {};
  std::copy(raw.begin(), raw.end(), inner);
  switch (number) {
    case SYS_SOCKET:
      return MakeSocket(context, call, inner);
    case SYS_GETPEERNAME:
      return HandleGetpeername(context, call, inner);
    case SYS_CONNECT:
      return HandleConnect(context, call, inner);
    case SYS_SENDTO:
      return HandleSendto(context, call, inner);
    case SYS_SENDMSG:
      return HandleSendmsg(context, call, inner);
    case SYS_SENDMMSG:
      return HandleSendmmsg(context, call, inner);
    case SYS_RECVFROM:
      return HandleRecvfrom(context, call, inner);
    case SYS_RECVMSG:
      return HandleRecvmsg(context, call, inner);
    case SYS_RECVMMSG:
      return HandleRecvmmsg(context, call, inner, false);
    case SYS_SETSOCKOPT:
      return PerformSetsockopt(context, call, inner);
    case SYS_BIND:
      return HandleBind(context, call, inner);
    case SYS_LISTEN:
      return HandleListen(context, call, inner);
    case SYS_ACCEPT:
      return HandleAccept(context, call, inner, 0);
    default:
      return HandleAccept(context, call, inner, static_cast<int>(inner[3]));
  }
}

}  // namespace oakum::agent
