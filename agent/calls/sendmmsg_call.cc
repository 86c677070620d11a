// sendmmsg(2): as many entries together as need nothing but to be sent, the others one by one.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <utility>

#include "agent/caller/message.h"
#include "agent/calls/calls.h"
#include "agent/calls/send_batch.h"
#include "agent/calls/send_call.h"
#include "agent/calls/send_operation.h"

namespace oakum::agent {

namespace {

// sendmmsg(2): entry after entry, until one fails or would wait without anything sent yet.
class SendMultipleOperation final : public Operation {
 public:
  SendMultipleOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call,
                        PinnedSocket socket, std::vector<char> headers, size_t whole,
                        uint64_t address, int flags, bool thread_pidfds)
      : core_(std::move(core)),
        call_(call),
        socket_(std::move(socket)),
        headers_(std::move(headers)),
        address_(address),
        flags_(flags),
        may_wait_((flags & MSG_DONTWAIT) == 0 &&
                  (fcntl(socket_.fd.get(), F_GETFL) & O_NONBLOCK) == 0),
        stride_(RawMultipleHeaderSize(call.kind.compat)),
        whole_(whole),
        count_(headers_.size() / stride_),
        descriptors_(thread_pidfds),
        together_(SendBatch::Suits(call_, socket_, flags_) ? SendBatch::kMostEntries : 1) {}

  std::optional<Answer> Step(const Stepper& stepper) override {
    while (next_ < count_) {
      if (!sender_) {
        // It may have waited for hours: each entry is decided under what holds then.
        call_.source = core_->source();
        const CallContext context{*core_, descriptors_, *call_.source, stepper.uring};
        if (together_ > 1 && !std::exchange(alone_, false) && next_ + 1 < whole_) {
          bool gone = false;
          if (auto answer = SendTogether(context, gone); answer) {
            return answer;
          }
          if (gone) {
            return next_ > 0 ? std::nullopt : std::optional(Answer::None());
          }
          continue;
        }
        if (auto answer = Begin(context); answer) {
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
  // Sends what can be sent together from entry `next_` on, if anything: an answer when the call
  // ends there.
  std::optional<Answer> SendTogether(const CallContext& context, bool& gone) {
    const pid_t tid = call_.notification.tid;
    SendBatch batch(
        std::span<const char>(headers_).subspan(next_ * stride_, (whole_ - next_) * stride_),
        address_ + next_ * stride_);
    batch.Read(tid, together_);
    if (!core_->notify().IdValid(call_.notification.id)) {
      gone = true;
      return std::nullopt;
    }
    batch.Decide(context, call_, socket_);
    if (batch.size() > 1) {
      batch.Probe(tid);
    }
    const size_t count = batch.size();
    // What was read in vain is read once more: fewer the next time.
    together_ = batch.stopped() ? std::max<size_t>(count, 1) : together_;
    alone_ = batch.stopped() || count <= 1;
    if (count <= 1) {
      return std::nullopt;
    }
    batch.Assemble();
    if (call_.slot != nullptr) {
      call_.slot->written = 0;
      call_.slot->Begin(JournalAct::kSend, static_cast<int64_t>(next_ + count));
    }
    const int result = batch.Send(socket_.fd.get(), flags_);
    const int error = errno;
    const size_t sent = result > 0 ? static_cast<size_t>(result) : 0;
    if (call_.slot != nullptr) {
      call_.slot->End(next_ + sent);
    }
    // The kernel does not say what was the matter with one that is not the first.
    const bool waits = sent < count && may_wait_ &&
                       (result < 0 ? error == EAGAIN || error == EWOULDBLOCK : !HasRoom());
    batch.Report(*core_, call_, std::min(count, sent + (waits ? 0 : 1)));
    const size_t recorded = sent > 0 ? batch.Record(tid, sent) : 0;
    next_ += recorded;
    if (recorded < sent) {
      return Finish(EFAULT);
    }
    if (sent == count) {
      return std::nullopt;
    }
    alone_ = true;
    return waits ? std::nullopt : std::optional(Finish(result < 0 ? error : 0));
  }

  [[nodiscard]] bool HasRoom() const {
    pollfd poll_fd = {socket_.fd.get(), POLLOUT, 0};
    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLOUT) != 0;
  }

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
  const size_t whole_;  // entries that were read with their msg_len
  const size_t count_;
  DescriptorSource descriptors_;
  size_t together_;     // entries that are sent together at most
  bool alone_ = false;  // the next one is looked at by itself
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

Outcome HandleSendmmsg(const CallContext& context, const GuardedCall& call, Arguments args) {
  const pid_t tid = call.notification.tid;
  PinnedSocket socket;
  if (const int error = TakeSender(context, call, args[0], static_cast<int>(args[3]), socket);
      error != 0) {
    return Outcome::Of(Answer::Error(error));
  }
  const size_t stride = RawMultipleHeaderSize(call.kind.compat);
  const size_t count = std::min<size_t>(static_cast<uint32_t>(args[2]), kMaxPieces);
  std::vector<char> headers(count * stride);
  const size_t got = ReadMemory(tid, args[1], headers.data(), headers.size());
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
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
  const uint64_t cookie = socket.cookie;
  auto operation = std::make_unique<SendMultipleOperation>(
      context.core.shared_from_this(), call, std::move(socket), std::move(headers), got / stride,
      args[1], static_cast<int>(args[3]), context.descriptors.thread_pidfds());
  auto answer = operation->Step({context.uring, false});
  if (!answer) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(std::move(*answer), operation->TakeSocket(), cookie);
}

}  // namespace oakum::agent
