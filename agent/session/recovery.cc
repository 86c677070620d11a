#include "agent/session/recovery.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace oakum::agent {

namespace {

// include/net/tcp_states.h
constexpr int kTcpSynSent = 2;
constexpr int kTcpSynRecv = 3;
constexpr int kTcpClose = 7;

enum class Progress : uint8_t { kNotBegun, kOnItsWay, kEstablished, kFailed };

// How far a connection attempt has come (tcp(7), TCP_INFO).
Progress ProgressOf(int socket_fd) {
  tcp_info info = {};
  socklen_t length = sizeof info;
  if (getsockopt(socket_fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) {
    return Progress::kNotBegun;
  }
  if (info.tcpi_state == kTcpSynSent || info.tcpi_state == kTcpSynRecv) {
    return Progress::kOnItsWay;
  }
  if (info.tcpi_state != kTcpClose) {
    return Progress::kEstablished;
  }
  // The counters stay until somebody takes the error of a failed attempt (tcp_disconnect()). That
  // of what was acknowledged counts the SYN.
  return info.tcpi_bytes_acked > 0 ? Progress::kEstablished
         : info.tcpi_segs_out > 0  ? Progress::kFailed
                                   : Progress::kNotBegun;
}

bool IsNonBlocking(int socket_fd) { return (fcntl(socket_fd, F_GETFL) & O_NONBLOCK) != 0; }

bool HasPeer(int socket_fd) {
  sockaddr_storage peer = {};
  socklen_t length = sizeof peer;
  return getpeername(socket_fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
}

// Whether bind(2) has been successful: a port, a netlink id, a name.
bool IsBound(const PinnedSocket& socket) {
  sockaddr_storage own = {};
  socklen_t length = sizeof own;
  if (getsockname(socket.fd.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0) {
    return false;
  }
  switch (own.ss_family) {
    case AF_INET:
      return reinterpret_cast<const sockaddr_in&>(own).sin_port != 0;
    case AF_INET6:
      return reinterpret_cast<const sockaddr_in6&>(own).sin6_port != 0;
    default:
      return length > sizeof(sa_family_t) && socket.domain == AF_UNIX;
  }
}

std::optional<Answer> SettleConnect(const PinnedSocket& socket) {
  const int fd = socket.fd.get();
  if (!socket.is_inet() || !socket.is_stream()) {
    return std::nullopt;  // sends nothing, so that it may be done again
  }
  switch (ProgressOf(fd)) {
    case Progress::kNotBegun:
      return std::nullopt;
    case Progress::kOnItsWay:
      // Who waits is told EALREADY when it is done again, and waits on.
      return IsNonBlocking(fd) ? std::optional(Answer::Performed(0, EINPROGRESS)) : std::nullopt;
    case Progress::kEstablished:
      return Answer::Performed(0, 0);
    case Progress::kFailed:
      return Answer::Performed(0, IsNonBlocking(fd) ? EINPROGRESS : EndFailedConnect(fd));
  }
  return std::nullopt;
}

// What is kept of a socket in non-blocking mode that is carried goes on without the call
// (relay_recovery.h): the answer to that, if something is.
std::optional<Answer> SettleCarried(const CallContext& context, const PinnedSocket& socket) {
  auto& carried = *context.carried();
  const uint64_t cookie = SocketCookie(socket.fd.get());
  if (!socket.is_inet() || !socket.is_stream() || !IsNonBlocking(socket.fd.get()) ||
      !carried.peers().Find(cookie)) {
    return std::nullopt;
  }
  if (ProgressOf(socket.fd.get()) != Progress::kNotBegun) {
    return Answer::Performed(0, EINPROGRESS);
  }
  carried.LeadsNowhere(cookie);  // what is kept for it gives way (GoOnHolding())
  return std::nullopt;
}

// The agent may have spoken on the socket, or was about to: whoever it was connected to is not what
// the program has asked for. So it begins anew.
void Disconnect(const PinnedSocket& socket) {
  if (socket.is_inet() && socket.is_stream() &&
      ProgressOf(socket.fd.get()) != Progress::kNotBegun) {
    sockaddr unspecified = {};
    unspecified.sa_family = AF_UNSPEC;
    (void)connect(socket.fd.get(), &unspecified, sizeof unspecified);
  }
}

// How much of a piece the socket has taken; natively what is interrupted says as much. Nothing
// where it cannot be told.
std::optional<uint64_t> StreamSent(const JournalSlot& slot, const PinnedSocket& socket) {
  const uint64_t now = slot.written != 0 ? StreamPosition(socket.fd.get()) : 0;
  const auto most = static_cast<uint64_t>(slot.value);  // with what had been sent before
  if (now < slot.written || now == 0 || most < slot.progress) {
    return std::nullopt;
  }
  return std::min(most, slot.progress + (now - slot.written));
}

// What became of something that was being performed.
std::optional<Answer> Settle(const CallContext& context, const JournalSlot& slot,
                             const PinnedSocket& socket) {
  if (slot.cookie != 0 && slot.cookie != SocketCookie(socket.fd.get())) {
    return std::nullopt;  // the container has put another socket in its place
  }
  switch (slot.act.load(std::memory_order_relaxed)) {
    case JournalAct::kNone:
      return std::nullopt;
    case JournalAct::kConnect:
      return SettleConnect(socket);
    case JournalAct::kConnectUnix:
      return socket.type != SOCK_DGRAM && HasPeer(socket.fd.get())
                 ? std::optional(Answer::Performed(0, 0))
                 : std::nullopt;
    case JournalAct::kCarry:
      if (auto answer = SettleCarried(context, socket); answer) {
        return answer;
      }
      Disconnect(socket);
      context.carried()->LeadsNowhere(SocketCookie(socket.fd.get()));
      return std::nullopt;
    case JournalAct::kSend:
      // It never waits, and a process that is killed ends behind its system call, not within.
      return Answer::Performed(slot.value, 0);
    case JournalAct::kSendStream:
      if (const auto sent = StreamSent(slot, socket); sent) {
        return *sent > 0 ? std::optional(Answer::Performed(static_cast<int64_t>(*sent), 0))
                         : std::nullopt;
      }
      // A stream with a hole in it, or with something twice, is worse than one that ends.
      (void)shutdown(socket.fd.get(), SHUT_RDWR);
      return Answer::Performed(0, ECONNRESET);
    case JournalAct::kBind:
      return IsBound(socket) ? std::optional(Answer::Performed(0, 0)) : std::nullopt;
  }
  return std::nullopt;
}

bool IsConnect(const JournalSlot& slot) {
  const JournalAct act = slot.act.load(std::memory_order_relaxed);
  return act == JournalAct::kConnect || act == JournalAct::kConnectUnix;
}

std::optional<Answer> Found(const CallContext& context, const JournalSlot& slot,
                            const PinnedSocket& socket) {
  switch (slot.phase.load(std::memory_order_acquire)) {
    case JournalPhase::kReceived:
      // Natively, what is interrupted in the middle says how far it has come.
      return slot.progress > 0
                 ? std::optional(Answer::Performed(static_cast<int64_t>(slot.progress), 0))
                 : std::nullopt;
    case JournalPhase::kPerforming:
      return Settle(context, slot, socket);
    case JournalPhase::kDone: {
      Answer answer = Answer::Performed(slot.value, slot.error);
      answer.performed = slot.cookie != 0;
      answer.sigpipe = slot.sigpipe != 0;
      return answer;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Outcome> Recover(const CallContext& context, const GuardedCall& call) {
  const JournalSlot& slot = *call.slot;
  PinnedSocket socket;
  if (slot.socket >= 0) {
    (void)Pin(context, call.notification.tid, slot.socket, socket);
  }
  const bool waits = context.core.notify().IdValid(call.notification.id);
  if (!waits && !IsConnect(slot) && slot.act.load() != JournalAct::kCarry) {
    return Outcome::Of(Answer::None());
  }
  const uint64_t cookie = slot.cookie;
  auto answer = Found(context, slot, socket);
  if (waits) {
    return answer ? std::optional(Outcome::Of(std::move(*answer), std::move(socket.fd)))
                  : std::nullopt;
  }
  // Interrupted by a signal while nobody was there: the same connect may come again. One that was
  // answered looks the same; what is kept for it then does no harm.
  if (answer && answer->performed && cookie != 0) {
    context.core.KeepForReplay(call, std::move(*answer), cookie);
  }
  return Outcome::Of(Answer::None());
}

}  // namespace oakum::agent
