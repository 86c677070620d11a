// recvfrom(2), recvmsg(2), recvmmsg(2): on sockets that are carried the sender is who the program
// sent to, not the gate that the datagram came through. Nothing is decided, so that every other
// receive is the kernel's.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "agent/caller/message.h"
#include "agent/calls/calls.h"
#include "agent/udp/receive_operation.h"

namespace oakum::agent {

namespace {

// MSG_CMSG_COMPAT (include/linux/socket.h): recvmsg(2) and recvmmsg(2) refuse it from 64-bit
// programs.
constexpr int kCmsgCompat = INT_MIN;

bool HasDatagram(int socket_fd) {
  pollfd state = {socket_fd, POLLIN, 0};
  return poll(&state, 1, 0) != 0;
}

// The socket, when the agent has to perform the call: nothing for all others.
std::optional<PinnedSocket> Consider(const CallContext& context, const GuardedCall& call, int fd,
                                     int flags) {
  const CarriedSockets& carried = *context.core.container()->datagrams;
  // The error queue (recv(2), MSG_ERRQUEUE) is not for datagrams.
  if ((flags & MSG_ERRQUEUE) != 0 || ((flags & kCmsgCompat) != 0 && !call.kind.compat)) {
    return std::nullopt;
  }
  if (carried.empty()) {
    const policy::Policy* policy = context.policy();
    if ((flags & MSG_DONTWAIT) != 0 || policy == nullptr || !policy->carries_datagrams()) {
      return std::nullopt;
    }
  }
  PinnedSocket socket;
  if (Pin(context, call.notification.tid, fd, socket) != 0) {
    (void)context.descriptors.TakeRefused();  // no matter: the kernel has the answer
    return std::nullopt;
  }
  if (!socket.is_inet() || socket.transport() != policy::Transport::kUdp) {
    return std::nullopt;
  }
  if (carried.IsCarried(socket.cookie)) {
    return socket;
  }
  // A socket that waits here now may be carried before its first datagram comes, as with one thread
  // that receives and another that sends.
  const bool waits = (flags & MSG_DONTWAIT) == 0 &&
                     (fcntl(socket.fd.get(), F_GETFL) & O_NONBLOCK) == 0 &&
                     !HasDatagram(socket.fd.get());
  return waits ? std::optional(std::move(socket)) : std::nullopt;
}

Outcome Perform(const CallContext& context, std::unique_ptr<ReceiveOperation> operation) {
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket());
}

// Reads and checks the timespec of recvmmsg(2): 0, EFAULT or EINVAL.
int ReadTimeout(pid_t tid, uint64_t address, bool wide, MessageArray& out) {
  constexpr int64_t kNanoseconds = 1'000'000'000;
  constexpr int64_t kForever = int64_t{100} * 365 * 24 * 3600;  // seconds
  int64_t value[2] = {};
  int32_t narrow[2] = {};
  void* const raw = wide ? static_cast<void*>(value) : static_cast<void*>(narrow);
  const size_t size = wide ? sizeof value : sizeof narrow;
  if (ReadMemory(tid, address, raw, size) != size) {
    return EFAULT;
  }
  if (!wide) {
    value[0] = narrow[0];
    value[1] = narrow[1];
  }
  if (value[0] < 0 || value[1] < 0 || value[1] >= kNanoseconds) {
    return EINVAL;
  }
  out.until = Clock::now() + std::chrono::seconds(std::min(value[0], kForever)) +
              std::chrono::nanoseconds(value[1]);
  out.time_address = address;
  out.wide_time = wide;
  return 0;
}

}  // namespace

Outcome HandleRecvfrom(const CallContext& context, const GuardedCall& call, Arguments args) {
  const int flags = static_cast<int>(args[3]);
  if (args[4] == 0) {
    return Outcome::Of(Answer::Continue());  // nobody asks who has sent it
  }
  auto socket = Consider(context, call, static_cast<int>(args[0]), flags);
  if (!socket || !IsUserRange(args[1], std::min<uint64_t>(args[2], kMaxBytes))) {
    return Outcome::Of(Answer::Continue());
  }
  Reception where;
  where.size = std::min<size_t>(args[2], kMaxBytes);
  if (where.size > 0) {
    where.pieces.push_back(
        {reinterpret_cast<void*>(static_cast<uintptr_t>(args[1])), where.size});  // NOLINT: remote
  }
  where.name = args[4];
  where.name_length = args[5];
  return Perform(context,
                 std::make_unique<ReceiveOperation>(context.core.shared_from_this(), call,
                                                    std::move(*socket), flags, std::move(where)));
}

Outcome HandleRecvmsg(const CallContext& context, const GuardedCall& call, Arguments args) {
  const int flags = static_cast<int>(args[2]);
  auto socket = Consider(context, call, static_cast<int>(args[0]), flags);
  if (!socket) {
    return Outcome::Of(Answer::Continue());
  }
  Reception where;
  const int error = ReadReception(call.notification.tid, args[1], call.kind.compat, where);
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  return Perform(context,
                 std::make_unique<ReceiveOperation>(context.core.shared_from_this(), call,
                                                    std::move(*socket), flags, std::move(where)));
}

Outcome HandleRecvmmsg(const CallContext& context, const GuardedCall& call, Arguments args,
                       bool wide_time) {
  const int flags = static_cast<int>(args[3]);
  auto socket = Consider(context, call, static_cast<int>(args[0]), flags);
  if (!socket) {
    return Outcome::Of(Answer::Continue());
  }
  MessageArray array;
  array.address = args[1];
  array.count = std::min<size_t>(static_cast<uint32_t>(args[2]), kMaxPieces);
  if (args[4] != 0) {
    const int error = ReadTimeout(call.notification.tid, args[4], wide_time, array);
    if (!context.core.notify().IdValid(call.notification.id)) {
      return Outcome::Of(Answer::None());
    }
    if (error != 0) {
      return Outcome::Of(Answer::Error(error));
    }
  }
  return Perform(context, std::make_unique<ReceiveOperation>(context.core.shared_from_this(), call,
                                                             std::move(*socket), flags, array));
}

}  // namespace oakum::agent
