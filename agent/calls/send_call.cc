// sendto(2), sendmsg(2), sendmmsg(2): copied, decided on the copy, sent from here.
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstring>

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

bool IsForbidden(const GuardedCall& call, int flags) {
  return !call.kind.compat && (flags & kCmsgCompat) != 0;
}

// What became of one message before it is sent.
struct Prepared {
  enum class Kind : uint8_t { kSend, kPass, kError, kGone } kind = Kind::kError;
  int error = 0;
  bool unreached = false;        // kError: a unix name leads nowhere
  bool loopback = false;         // an internet destination on this machine
  bool pin_to_loopback = false;  // ... that only a control message keeps there
  bool carried = false;          // ... that is a gate of the agent's
  OutgoingMessage message;

  static Prepared Error(int error) {
    Prepared prepared;
    prepared.error = error;
    return prepared;
  }
  static Prepared Of(Kind kind) {
    Prepared prepared;
    prepared.kind = kind;
    return prepared;
  }
};

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

// Decides where a message goes. kSend with `message.name` set when it may go there.
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

// Everything up to the payload. `header` has been copied.
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
  auto operation = std::make_unique<SendOperation>(context.core.notify(), std::move(socket),
                                                   std::move(prepared.message));
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket());
}

Outcome Gone() { return Outcome::Of(Answer::None()); }

// sendmmsg(2): entry after entry, until one fails or would wait without anything sent yet.
class SendMultipleOperation final : public Operation {
 public:
  SendMultipleOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call,
                        PinnedSocket socket, std::vector<char> headers, uint64_t address, int flags,
                        bool thread_pidfds)
      : core_(std::move(core)),
        call_(call),
        socket_(std::move(socket)),
        headers_(std::move(headers)),
        address_(address),
        flags_(flags),
        may_wait_((flags & MSG_DONTWAIT) == 0 &&
                  (fcntl(socket_.fd.get(), F_GETFL) & O_NONBLOCK) == 0),
        stride_(RawMultipleHeaderSize(call.kind.compat)),
        count_(headers_.size() / stride_),
        descriptors_(thread_pidfds) {}

  std::optional<Answer> Step(const Stepper& stepper) override {
    while (next_ < count_) {
      if (!sender_) {
        // It may have waited for hours: each entry is decided under what holds then.
        call_.source = core_->source();
        if (auto answer = Begin({*core_, descriptors_, *call_.source, stepper.uring}); answer) {
          return answer;
        }
      }
      const MessageSender::Result result =
          sender_ ? sender_->Push(core_->notify()) : MessageSender::Result{.gone = true};
      if (result.gone) {
        // Found by the sweep, which keeps the number of entries sent for a replay.
        return next_ > 0 ? std::nullopt : std::optional(Answer::None());
      }
      if (!result.finished && may_wait_) {
        return std::nullopt;
      }
      if (result.error != 0 && result.sent == 0) {
        return Finish(result.error);
      }
      if (!Record(result.sent)) {
        return Finish(EFAULT);
      }
      sender_.reset();
      ++next_;
      if (!result.finished) {
        break;  // a stream without room: a short entry ends the call
      }
    }
    return Finish(0);
  }
  Wait wait() const override { return WaitForRoom(socket_, std::chrono::milliseconds(5)); }
  int socket_fd() const override { return socket_.fd.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.fd.get(), SO_SNDTIMEO);
  }
  Answer TimedOut() override { return Finish(EAGAIN); }
  std::optional<Answer> Abandon() override {
    if (next_ == 0) {
      return std::nullopt;
    }
    return Finish(0);
  }
  UniqueFd TakeSocket() { return std::move(socket_.fd); }

 private:
  // Reads, decides and prepares entry `next_`: an answer when the call ends there, nothing and no
  // sender when the caller is gone.
  std::optional<Answer> Begin(const CallContext& context) {
    MessageHeader header;
    const RawMessageHeader raw =
        DecodeRawHeader(headers_.data() + next_ * stride_, call_.kind.compat);
    if (const int error = ReadMessageHeader(call_.notification.tid, raw, call_.kind.compat, header);
        error != 0) {
      return Finish(error);
    }
    if (!core_->notify().IdValid(call_.notification.id)) {
      return std::nullopt;
    }
    Prepared prepared =
        Prepare(context, call_, socket_, std::move(header), flags_ | (raw.flags & MSG_EOR));
    switch (prepared.kind) {
      case Prepared::Kind::kPass:
        // The policy turned to audit in the middle of a call: the rest is for the caller to repeat.
        return next_ > 0 ? Finish(0) : Answer::Continue();
      case Prepared::Kind::kError:
        return Finish(prepared.error);
      case Prepared::Kind::kGone:
        return std::nullopt;
      case Prepared::Kind::kSend:
        break;
    }
    prepared.message.entry = next_;
    sender_.emplace(socket_.fd.get(), socket_.is_stream(), std::move(prepared.message));
    return std::nullopt;
  }

  // Writes msg_len of the current entry back, as sendmmsg(2) does after each.
  bool Record(size_t sent) {
    const auto length = static_cast<uint32_t>(sent);
    const uint64_t at = address_ + next_ * stride_ +
                        (call_.kind.compat ? RawHeaderSize(true) : offsetof(mmsghdr, msg_len));
    return WriteMemory(call_.notification.tid, at, &length, sizeof length);
  }

  // What was sent counts; an error shows only when nothing was.
  Answer Finish(int error) {
    if (next_ > 0) {
      return Answer::Performed(static_cast<int64_t>(next_), 0);
    }
    Answer answer = Answer::Performed(0, error);
    answer.sigpipe = error == EPIPE && socket_.is_stream() && (flags_ & MSG_NOSIGNAL) == 0;
    return answer;
  }

  const std::shared_ptr<SessionCore> core_;
  GuardedCall call_;
  PinnedSocket socket_;
  const std::vector<char> headers_;
  const uint64_t address_;
  const int flags_;
  const bool may_wait_;
  const size_t stride_;
  const size_t count_;
  DescriptorSource descriptors_;
  size_t next_ = 0;
  std::optional<MessageSender> sender_;
};

// In audit everything passes: each entry is decided for its event only.
Outcome AuditMultiple(const CallContext& context, const GuardedCall& call,
                      const PinnedSocket& socket, const std::vector<char>& headers) {
  const size_t stride = RawMultipleHeaderSize(call.kind.compat);
  for (size_t at = 0; at < headers.size(); at += stride) {
    MessageHeader header;
    if (ReadMessageHeader(call.notification.tid,
                          DecodeRawHeader(headers.data() + at, call.kind.compat), call.kind.compat,
                          header) != 0 ||
        !context.core.notify().IdValid(call.notification.id)) {
      break;
    }
    (void)JudgeDestination(context, call, socket, header.name);
  }
  return Outcome::Of(Answer::Continue());
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
  if (args[4] != 0) {
    if (const int error = ReadSockaddr(tid, args[4], static_cast<int32_t>(args[5]), header.name);
        error != 0) {
      return Outcome::Of(Answer::Error(error));
    }
  }
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Gone();
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
  return Send(context, std::move(socket), std::move(prepared));
}

Outcome HandleSendmsg(const CallContext& context, const GuardedCall& call, Arguments args) {
  if (IsForbidden(call, static_cast<int>(args[2]))) {
    return Outcome::Of(Answer::Error(EINVAL));
  }
  const pid_t tid = call.notification.tid;
  PinnedSocket socket;
  if (const int error = Pin(context, tid, static_cast<int>(args[0]), socket); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  call.Name(static_cast<int>(args[0]));
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
    return Gone();
  }
  Prepared prepared = Prepare(context, call, socket, std::move(header), static_cast<int>(args[2]));
  return Send(context, std::move(socket), std::move(prepared));
}

Outcome HandleSendmmsg(const CallContext& context, const GuardedCall& call, Arguments args) {
  if (IsForbidden(call, static_cast<int>(args[3]))) {
    return Outcome::Of(Answer::Error(EINVAL));
  }
  const pid_t tid = call.notification.tid;
  PinnedSocket socket;
  if (const int error = Pin(context, tid, static_cast<int>(args[0]), socket); error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  call.Name(static_cast<int>(args[0]));
  const size_t stride = RawMultipleHeaderSize(call.kind.compat);
  const size_t count = std::min<size_t>(static_cast<uint32_t>(args[2]), kMaxPieces);
  std::vector<char> headers(count * stride);
  const size_t got = ReadMemory(tid, args[1], headers.data(), headers.size());
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Gone();
  }
  // The last one counts without its msg_len, which is only written.
  const bool has_header = got % stride >= RawHeaderSize(call.kind.compat);
  headers.resize(got - got % stride + (has_header ? stride : 0));
  if (headers.empty()) {
    return Outcome::Of(count == 0 ? Answer::Value(0) : Answer::Error(EFAULT));
  }
  if (context.Audits()) {
    return AuditMultiple(context, call, socket, headers);
  }
  auto operation = std::make_unique<SendMultipleOperation>(
      context.core.shared_from_this(), call, std::move(socket), std::move(headers), args[1],
      static_cast<int>(args[3]), context.descriptors.thread_pidfds());
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket());
}

}  // namespace oakum::agent
