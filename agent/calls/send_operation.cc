#include "agent/calls/send_operation.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "agent/caller/identity.h"

namespace oakum::agent {

namespace {

// A stream is carried in pieces of this size, and one step ends after so much: nobody else of the
// session waits longer than that takes.
constexpr size_t kStreamPiece = size_t{256} * 1024;
constexpr size_t kStepBudget = size_t{1024} * 1024;
// What the kernel itself copies at a time: a piece with a fault in it is not sent at all
// (SKB_FRAG_PAGE_ORDER, unix_stream_sendmsg()).
constexpr size_t kKernelPiece = size_t{32} * 1024;
constexpr std::chrono::milliseconds kSlowestRetry{20};
constexpr int kFastopen = MSG_FASTOPEN;

constexpr uint64_t kFileCapabilities =
    CapabilityBit(CAP_DAC_OVERRIDE) | CapabilityBit(CAP_DAC_READ_SEARCH);

// Pages for one zero-copy send. The kernel keeps them until the data has left (MSG_ZEROCOPY,
// msg_zerocopy.rst), so they are unmapped and never written again.
class Pages {
 public:
  explicit Pages(size_t size)
      : size_(size),
        base_(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Pages() {
    if (ok()) {
      munmap(base_, size_);
    }
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  [[nodiscard]] bool ok() const { return base_ != MAP_FAILED; }
  [[nodiscard]] char* data() const { return static_cast<char*>(base_); }

 private:
  size_t size_;
  void* base_;
};

// sendmsg(2) without what stands before it: a sanitizer's would read the payload itself, also where
// the kernel is meant to find that it cannot be read.
ssize_t SendMessage(int socket_fd, const msghdr& header, int flags) {
  return syscall(SYS_sendmsg, socket_fd, &header, flags);
}

ssize_t SendAs(const OutgoingMessage& message, int socket_fd, const msghdr& header, int flags) {
  if (message.identity) {
    const ScopedIdentity identity(*message.identity, message.same_user_namespace, kFileCapabilities,
                                  kPerformerCapabilities);
    if (!identity.ok()) {
      errno = EPERM;
      return -1;
    }
    // The credentials in the message are the caller's own, which its ids may send themselves;
    // only the process id needs privilege.
    SetEffectiveCapabilities(kCredentialCapabilities |
                             (message.same_user_namespace
                                  ? message.identity->effective_capabilities & kFileCapabilities
                                  : 0));
    return SendMessage(socket_fd, header, flags);
  }
  if (message.set_credentials) {
    const ScopedCapabilities raised(kCredentialCapabilities | kPerformerCapabilities,
                                    kPerformerCapabilities);
    return SendMessage(socket_fd, header, flags);
  }
  return SendMessage(socket_fd, header, flags);
}

bool IsNonBlocking(int socket_fd, int flags) {
  return (flags & MSG_DONTWAIT) != 0 || (fcntl(socket_fd, F_GETFL) & O_NONBLOCK) != 0;
}

}  // namespace

std::optional<Clock::duration> SocketTimeout(int socket_fd, int option) {
  timeval value = {};
  socklen_t length = sizeof value;
  if (getsockopt(socket_fd, SOL_SOCKET, option, &value, &length) != 0 ||
      (value.tv_sec == 0 && value.tv_usec == 0)) {
    return std::nullopt;
  }
  return std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
}

Wait WaitForRoom(const PinnedSocket& socket, std::chrono::milliseconds delay) {
  if (socket.domain == AF_UNIX && !socket.is_stream()) {
    return {0, delay};
  }
  return {EPOLLOUT, {}};
}

MessageSender::MessageSender(int socket_fd, bool stream, OutgoingMessage message)
    : socket_fd_(socket_fd), stream_(stream), message_(std::move(message)) {
  if (message_.payload) {
    payload_ = std::move(*message_.payload);
    message_.payload.reset();
    loaded_ = true;
  }
}

ssize_t MessageSender::SendOnce(const char* data, size_t size, bool with_control) {
  iovec piece = {const_cast<char*>(data), size};  // NOLINT: sendmsg only reads it
  msghdr header = {};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (message_.name.length > 0) {
    header.msg_name = &message_.name.storage;
    header.msg_namelen = message_.name.length;
  }
  if (with_control && !message_.control.bytes.empty()) {
    header.msg_control = message_.control.bytes.data();
    header.msg_controllen = message_.control.bytes.size();
  }
  const int flags = (message_.flags & ~kFastopen) | MSG_DONTWAIT | MSG_NOSIGNAL;
  return SendAs(message_, socket_fd_, header, flags);
}

// What the kernel says to a message of `size` bytes that cannot be read from here either: its own
// checks come first, in its own order, and then EFAULT, for which `error` is meant. Nothing is
// sent.
MessageSender::Result MessageSender::Fail(size_t size, int error) {
  if (sent_ > 0) {
    return {.finished = true, .sent = sent_, .error = error};
  }
  const ssize_t put = SendOnce(nullptr, size, true);
  if (put >= 0) {
    return {.finished = true, .sent = static_cast<size_t>(put)};  // MSG_PROBE: nothing is looked at
  }
  const int said = errno == EFAULT ? error : errno;
  return {.finished = said != EAGAIN && said != EWOULDBLOCK, .sent = 0, .error = said};
}

ssize_t MessageSender::SendNoted(const char* data, size_t size) {
  JournalSlot* const slot = message_.slot;
  if (slot == nullptr) {
    return SendOnce(data, size, sent_ == 0);
  }
  const size_t entry = message_.entry.value_or(0);
  // Of unix sockets, which have credentials, the kernel does not tell it.
  const bool tells = stream_ && !message_.entry && !message_.set_credentials;
  slot->written = tells ? StreamPosition(socket_fd_) : 0;
  slot->Begin(stream_ ? JournalAct::kSendStream : JournalAct::kSend,
              static_cast<int64_t>(message_.entry ? entry + 1 : sent_ + size));
  const ssize_t put = SendOnce(data, size, sent_ == 0);
  const int error = errno;
  const size_t sent = sent_ + static_cast<size_t>(std::max<ssize_t>(0, put));
  if (!message_.entry) {
    slot->End(sent);
  } else if (put < 0 ? sent_ == 0 : !stream_ || sent == message_.size) {
    slot->End(entry + (put < 0 ? 0 : 1));
  }  // else a part of an entry, which no number of entries tells
  errno = error;
  return put;
}

MessageSender::Result MessageSender::Push(const NotifyFd& notify) {
  size_t budget = kStepBudget;
  for (;;) {
    const size_t left = message_.size - sent_;
    const size_t wanted = stream_ ? std::min(left, kStreamPiece) : left;
    const bool zero_copy = (message_.flags & MSG_ZEROCOPY) != 0;
    std::optional<Pages> pages;
    if (!stream_ && message_.size > message_.largest) {
      return Fail(message_.size, EMSGSIZE);
    }
    if (!loaded_ || (stream_ && payload_start_ != sent_)) {
      payload_.resize(wanted);
      size_t got = ReadPayload(message_.tid, message_.pieces, sent_, payload_.data(), wanted);
      // The number of the thread may have been reused: then this was somebody else's memory.
      if (!notify.IdValid(message_.notification_id)) {
        return {.finished = true, .sent = sent_, .error = EINTR, .gone = true};
      }
      if (got < wanted) {
        got = stream_ ? got - got % kKernelPiece : 0;
        if (got == 0) {
          payload_ = {};
          return Fail(wanted, EFAULT);
        }
      }
      payload_.resize(got);
      payload_start_ = sent_;
      loaded_ = true;
    }
    const char* data = payload_.data();
    if (zero_copy && !payload_.empty()) {
      pages.emplace(payload_.size());
      if (!pages->ok()) {
        return {.finished = true, .sent = sent_, .error = ENOBUFS};
      }
      std::copy(payload_.begin(), payload_.end(), pages->data());
      data = pages->data();
    }
    const ssize_t put = SendNoted(data, payload_.size());
    if (put < 0) {
      const int error = errno;
      const bool wait = error == EAGAIN || error == EWOULDBLOCK;
      // A message that waits takes no memory here: the payload is copied anew when there is room.
      payload_ = {};
      loaded_ = false;
      return {.finished = !wait, .sent = sent_, .error = error};
    }
    sent_ += static_cast<size_t>(put);
    if (!stream_ || sent_ >= message_.size) {
      return {.finished = true, .sent = sent_};
    }
    if (static_cast<size_t>(put) < payload_.size()) {
      payload_.erase(payload_.begin(), payload_.begin() + put);
      payload_start_ = sent_;
    }
    budget -= std::min(budget, static_cast<size_t>(put));
    if (budget == 0) {
      return {.finished = false, .sent = sent_, .error = EAGAIN};
    }
  }
}

SendOperation::SendOperation(const NotifyFd& notify, PinnedSocket socket, OutgoingMessage message)
    : notify_(notify),
      socket_(std::move(socket)),
      flags_(message.flags),
      sender_(socket_.fd.get(), socket_.is_stream(), std::move(message)) {}

std::optional<Answer> SendOperation::Step(const Stepper& /*stepper*/) {
  const MessageSender::Result result = sender_.Push(notify_);
  if (result.gone) {
    if (result.sent > 0) {
      return std::nullopt;  // found by the sweep, which keeps what has been sent for a replay
    }
    return Answer::None();
  }
  if (!result.finished && !may_wait_) {
    may_wait_ = !IsNonBlocking(socket_.fd.get(), flags_);
  }
  if (!result.finished && *may_wait_) {
    delay_ = std::min(delay_ * 2, kSlowestRetry);
    return std::nullopt;
  }
  if (result.error == 0 || result.sent > 0) {
    return Answer::Performed(static_cast<int64_t>(result.sent), 0);
  }
  Answer answer = Answer::Performed(0, result.error);
  answer.sigpipe = result.error == EPIPE && socket_.is_stream() && (flags_ & MSG_NOSIGNAL) == 0;
  return answer;
}

Wait SendOperation::wait() const { return WaitForRoom(socket_, delay_); }

Answer SendOperation::TimedOut() {
  return sender_.sent() > 0 ? Answer::Performed(static_cast<int64_t>(sender_.sent()), 0)
                            : Answer::Error(EAGAIN);
}

std::optional<Answer> SendOperation::Abandon() {
  // Natively a stream send that was interrupted half-way returns what it had sent.
  if (sender_.sent() == 0) {
    return std::nullopt;
  }
  return Answer::Performed(static_cast<int64_t>(sender_.sent()), 0);
}

}  // namespace oakum::agent
