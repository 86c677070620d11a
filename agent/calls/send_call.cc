// sendto(2), sendmsg(2), sendmmsg(2): copied, decided on the copy, sent from here.
#include "agent/calls/send_call.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "agent/caller/identity.h"
#include "agent/caller/message.h"
#include "agent/calls/calls.h"
#include "agent/calls/inet_destination.h"
#include "agent/calls/send_operation.h"
#include "agent/udp/udp_connect.h"

namespace oakum::agent {

namespace {

// No datagram is longer: IPv4 and IPv6 say EMSGSIZE beyond 65,535 (udp_sendmsg()); the others
// beyond their socket's buffer, for which this is a bound that no default reaches.
constexpr size_t kMaxInetDatagram = 65535;
constexpr size_t kMaxDatagram = size_t{4} * 1024 * 1024;
// MSG_CMSG_COMPAT, the kernel's own mark of 32-bit callers (include/linux/socket.h). sendto(2)
// ignores it; sendmsg(2) and sendmmsg(2) refuse it from 64-bit ones.
constexpr int kCmsgCompat = INT_MIN;

Prepared FromRuling(Ruling ruling) {
  switch (ruling) {
    case Ruling::kPass:
      return Prepared::Of(Prepared::Kind::kPass);
    case Ruling::kRefuse:
    case Ruling::kCarry:  // of internet destinations only, see Carry()
      return Prepared::Error(EACCES);
    case Ruling::kPerform:
      break;
  }
  return Prepared::Of(Prepared::Kind::kSend);
}

// The same message to the gate of its destination, on loopback and nowhere else.
Prepared Carry(const CallContext& context, const GuardedCall& call, const PinnedSocket& socket,
               const policy::Endpoint& destination, const Judged& judged) {
  Prepared prepared = Prepared::Of(Prepared::Kind::kSend);
  if (const int error =
          LeadMessage(context, call, socket, destination, judged, prepared.message.name);
      error != 0) {
    return Prepared::Error(error);
  }
  prepared.loopback = true;
  prepared.carried = true;
  prepared.pin_to_loopback =
      socket.domain == AF_INET6 && !ReadEndpoint(prepared.message.name).ip.IsV4();
  return prepared;
}

}  // namespace

int TakeSender(const CallContext& context, const GuardedCall& call, uint64_t fd, int flags,
               PinnedSocket& socket) {
  if (!call.kind.compat && (flags & kCmsgCompat) != 0) {
    return EINVAL;
  }
  const int number = static_cast<int>(fd);
  if (const int error = Pin(context, call.notification.tid, number, socket); error != 0) {
    return error;
  }
  call.Name(number);
  return 0;
}

Prepared JudgeDestination(const CallContext& context, const GuardedCall& call,
                          const PinnedSocket& socket, SockaddrCopy name) {
  Destination destination = ReadSendAddress(name, socket);
  if (socket.is_stream() && destination.kind != Destination::Kind::kOther) {
    // A stream ignores the address, or refuses it (send(2)): what it is connected to was decided
    // then. That holds as well for a connection that TCP_FASTOPEN_CONNECT has put off
    // (tcp_sendmsg_fastopen(): EINPROGRESS or EISCONN for one that is named).
    destination = {};
  }
  const bool audits = context.Audits();
  Prepared prepared = Prepared::Of(audits ? Prepared::Kind::kPass : Prepared::Kind::kSend);
  switch (destination.kind) {
    case Destination::Kind::kNone:
    case Destination::Kind::kNetlink:
      break;
    case Destination::Kind::kInet: {
      Judged judged;
      const Ruling ruling =
          JudgeInet(context, call, policy::Operation::kSend, socket, name, destination, judged);
      if (ruling == Ruling::kCarry) {
        return Carry(context, call, socket, destination.endpoint, judged);
      }
      prepared = FromRuling(ruling);
      prepared.loopback = IsLoopback(destination.endpoint.ip);
      prepared.pin_to_loopback = NeedsLoopbackPin(context, socket, destination);
      break;
    }
    case Destination::Kind::kUnixPath:
    case Destination::Kind::kUnixAbstract: {
      auto status = ReadTaskStatus(call.notification.tid);
      UnixPeer peer;
      const int found =
          status ? FindUnixPeer(context, call.notification.tid, *status, destination, name, peer)
                 : EACCES;
      if (!context.core.notify().IdValid(call.notification.id)) {
        return Prepared::Of(Prepared::Kind::kGone);
      }
      if (found != 0) {
        if (audits) {
          return Prepared::Of(Prepared::Kind::kPass);
        }
        prepared = Prepared::Error(found);
        prepared.unreached = true;
        return prepared;
      }
      prepared = FromRuling(context.core.Judge(call, policy::Operation::kSend, peer.names));
      prepared.message.name = peer.address;
      prepared.message.name_inode = std::move(peer.inode);
      prepared.message.identity = std::move(*status);
      prepared.message.same_user_namespace = InOwnUserNamespace(call.notification.tid);
      return prepared;
    }
    case Destination::Kind::kOther:
      prepared = FromRuling(context.core.JudgeUnsupported(
          call, policy::Operation::kSend, fmt::format("socket family {}", socket.domain)));
      break;
  }
  prepared.message.name = name;
  return prepared;
}

namespace {

// What the kernel finds before it looks up the name of a unix datagram's receiver, which said
// `found` (unix_dgram_sendmsg(), net/unix/af_unix.c).
int ErrorBeforeLookup(const GuardedCall& call, const PinnedSocket& socket,
                      const MessageHeader& header, int flags, int found) {
  constexpr size_t kOverhead = 32;
  if ((flags & MSG_OOB) != 0) {
    return EOPNOTSUPP;
  }
  int room = 0;
  socklen_t length = sizeof room;
  (void)getsockopt(socket.fd.get(), SOL_SOCKET, SO_SNDBUF, &room, &length);
  if (header.size + kOverhead > static_cast<size_t>(room) || header.size > kMaxDatagram) {
    return EMSGSIZE;
  }
  std::vector<char> payload(header.size);
  return ReadPayload(call.notification.tid, header.pieces, 0, payload.data(), payload.size()) ==
                 payload.size()
             ? found
             : EFAULT;
}

}  // namespace

Prepared Prepare(const CallContext& context, const GuardedCall& call, const PinnedSocket& socket,
                 MessageHeader header, int flags) {
  // The filter refuses MSG_FASTOPEN where flags are registers; socketcall(2) hides them.
  if ((flags & MSG_FASTOPEN) != 0 && !context.Audits()) {
    return Prepared::Error(EOPNOTSUPP);
  }
  ControlMessages control;
  if (!context.Audits() && (!header.control.empty() || socket.domain == AF_UNIX)) {
    if (const int error = TranslateControl(context, call.notification.tid, socket.domain,
                                           header.control, control);
        error != 0) {
      return Prepared::Error(error);
    }
    if (!context.core.notify().IdValid(call.notification.id)) {
      return Prepared::Of(Prepared::Kind::kGone);
    }
  }
  Prepared prepared = JudgeDestination(context, call, socket, header.name);
  if (prepared.unreached) {
    prepared.error = ErrorBeforeLookup(call, socket, header, flags, prepared.error);
  }
  if (prepared.kind != Prepared::Kind::kSend) {
    return prepared;
  }
  OutgoingMessage& message = prepared.message;
  message.tid = call.notification.tid;
  message.slot = call.slot;
  message.notification_id = call.notification.id;
  message.pieces = std::move(header.pieces);
  message.size = header.size;
  message.flags = flags & ~kCmsgCompat;
  message.largest = socket.is_inet() ? kMaxInetDatagram : kMaxDatagram;
  message.control = std::move(control);
  message.set_credentials = socket.domain == AF_UNIX;
  if (message.control.routes &&
      context.core.JudgeUnsupported(call, policy::Operation::kSend,
                                    "a control message that routes") == Ruling::kRefuse) {
    return Prepared::Error(EACCES);
  }
  // Loopback through another interface leaves the machine; where a message without a name goes is
  // not known here.
  if (message.control.names_interface && (message.name.length == 0 || prepared.loopback) &&
      (prepared.carried || DeniesByDefault(context)) &&
      context.core.JudgeUnsupported(call, policy::Operation::kSend,
                                    "loopback through another network interface") ==
          Ruling::kRefuse) {
    return Prepared::Error(EACCES);
  }
  if (prepared.pin_to_loopback) {
    PinToLoopback(message.control);
  }
  return prepared;
}

namespace {

Outcome Send(const CallContext& context, PinnedSocket socket, Prepared prepared) {
  switch (prepared.kind) {
    case Prepared::Kind::kPass:
      return Outcome::Of(Answer::Continue());
    case Prepared::Kind::kError:
      return Outcome::Of(Answer::Error(prepared.error));
    case Prepared::Kind::kGone:
      return Outcome::Of(Answer::None());
    case Prepared::Kind::kSend:
      break;
  }
  const uint64_t cookie = socket.cookie;
  auto operation = std::make_unique<SendOperation>(context.core.notify(), std::move(socket),
                                                   std::move(prepared.message));
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket(), cookie);
}

}  // namespace

Outcome HandleSendto(const CallContext& context, const GuardedCall& call, Arguments args) {
  const pid_t tid = call.notification.tid;
  if (!IsUserRange(args[1], std::min<uint64_t>(args[2], kMaxBytes))) {
    return Outcome::Of(Answer::Error(EFAULT));
  }
  PinnedSocket socket;
  if (const int error = Pin(context, tid, static_cast<int>(args[0]), socket); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  call.Name(static_cast<int>(args[0]));
  MessageHeader header;
  std::optional<std::vector<char>> payload;
  if (args[4] != 0) {
    const auto length = static_cast<int32_t>(args[5]);
    context.core.LookForMark(call);
    const int error = socket.is_inet() && !socket.is_stream() && args[2] <= kMaxInetDatagram
                          ? ReadSockaddr(tid, args[4], length, header.name, args[1],
                                         static_cast<size_t>(args[2]), payload, call.mark)
                          : ReadSockaddr(tid, args[4], length, header.name, call.mark);
    if (error != 0) {
      return Outcome::Of(Answer::Error(error));
    }
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (args[4] != 0 && header.name.length == 0 && socket.is_inet() && !socket.is_stream()) {
    // sendto(2) gives the protocol an address of no length, sendmsg(2) would give it none: one that
    // is just as short for each of them.
    if (context.Audits()) {
      return Outcome::Of(Answer::Continue());
    }
    header.name.length = 1;
  }
  header.size = std::min<size_t>(args[2], kMaxBytes);
  if (header.size > 0) {
    header.pieces.push_back(
        {reinterpret_cast<void*>(static_cast<uintptr_t>(args[1])), header.size});  // NOLINT: remote
  }
  Prepared prepared = Prepare(context, call, socket, std::move(header), static_cast<int>(args[3]));
  prepared.message.payload = std::move(payload);
  return Send(context, std::move(socket), std::move(prepared));
}

Outcome HandleSendmsg(const CallContext& context, const GuardedCall& call, Arguments args) {
  const pid_t tid = call.notification.tid;
  PinnedSocket socket;
  if (const int error = TakeSender(context, call, args[0], static_cast<int>(args[2]), socket);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  char raw[sizeof(msghdr)];
  const size_t raw_size = RawHeaderSize(call.kind.compat);
  if (ReadMemory(tid, args[1], raw, raw_size) != raw_size) {
    return Outcome::Of(Answer::Error(EFAULT));
  }
  MessageHeader header;
  if (const int error =
          ReadMessageHeader(tid, DecodeRawHeader(raw, call.kind.compat), call.kind.compat, header);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  Prepared prepared = Prepare(context, call, socket, std::move(header), static_cast<int>(args[2]));
  return Send(context, std::move(socket), std::move(prepared));
}

}  // namespace oakum::agent
