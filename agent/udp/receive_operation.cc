#include "agent/udp/receive_operation.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <ctime>
#include <memory>
#include <utility>

#include "agent/caller/message.h"

namespace oakum::agent {

namespace {

bool IsBlocking(int socket_fd, int flags) {
  return (flags & MSG_DONTWAIT) == 0 && (fcntl(socket_fd, F_GETFL) & O_NONBLOCK) == 0;
}

// Whether the socket has been shut down for reading: a receive that would wait says then that
// nothing comes any more (__skb_wait_for_more_packets(), net/core/datagram.c).
bool IsShutDown(int socket_fd) {
  pollfd state = {socket_fd, POLLRDHUP, 0};
  return poll(&state, 1, 0) == 1 && (state.revents & POLLRDHUP) != 0;
}

bool WriteTimeLeft(pid_t tid, const MessageArray& array) {
  const auto left = std::max(Clock::duration(0), *array.until - Clock::now());
  const int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(left).count();
  const int64_t nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(left).count() % 1'000'000'000;
  if (array.wide_time) {
    const int64_t value[2] = {seconds, nanoseconds};
    return WriteMemory(tid, array.time_address, value, sizeof value);
  }
  const int32_t value[2] = {static_cast<int32_t>(seconds), static_cast<int32_t>(nanoseconds)};
  return WriteMemory(tid, array.time_address, value, sizeof value);
}

}  // namespace

ReceiveOperation::ReceiveOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call,
                                   PinnedSocket socket, int flags, Reception where)
    : core_(std::move(core)),
      call_(call),
      socket_(std::move(socket)),
      cookie_(socket_.cookie),
      flags_(flags),
      blocking_(IsBlocking(socket_.fd.get(), flags)),
      single_(std::move(where)) {}

ReceiveOperation::ReceiveOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call,
                                   PinnedSocket socket, int flags, const MessageArray& array)
    : core_(std::move(core)),
      call_(call),
      socket_(std::move(socket)),
      cookie_(socket_.cookie),
      flags_(flags),
      blocking_(IsBlocking(socket_.fd.get(), flags)),
      array_(array) {}

bool ReceiveOperation::may_wait() const {
  return blocking_ && !(next_ > 0 && (flags_ & MSG_WAITFORONE) != 0);
}

Wait ReceiveOperation::wait() const { return {EPOLLIN, {}}; }

int ReceiveOperation::Locate(Reception& out) const {
  const bool compat = call_.kind.compat;
  return ReadReception(call_.notification.tid,
                       array_->address + next_ * RawMultipleHeaderSize(compat), compat, out);
}

bool ReceiveOperation::Record(size_t size) const {
  const bool compat = call_.kind.compat;
  const auto length = static_cast<uint32_t>(size);
  const uint64_t at = array_->address + next_ * RawMultipleHeaderSize(compat) +
                      (compat ? RawHeaderSize(true) : offsetof(mmsghdr, msg_len));
  return WriteMemory(call_.notification.tid, at, &length, sizeof length);
}

// What a program that waits for one datagram gets is written before it is taken, so that an agent
// which is killed on the way leaves it in its socket: taken, it would be gone, and the program
// would wait in vain for another one. That of a program that does not wait is lost at most, as
// datagrams are.
ssize_t ReceiveOperation::WriteAhead(const Reception& where, std::optional<ReceivedMessage>& seen,
                                     bool& gone) {
  ReceivedMessage message;
  const bool compat = call_.kind.compat;
  if (const int error = TakeMessage(socket_.fd.get(), flags_ | MSG_PEEK, where, compat, message);
      error != 0) {
    return -error;
  }
  Translate(message);
  // Lengths are written where the room was, which the next agent reads again.
  int32_t room = 0;
  if (where.name != 0 &&
      (ReadMemory(call_.notification.tid, where.name_length, &room, sizeof room) != sizeof room ||
       room < static_cast<int32_t>(message.sender.length))) {
    return 0;
  }
  gone = !core_->notify().IdValid(call_.notification.id);
  if (gone) {
    return 0;
  }
  const ssize_t written = WriteMessage(call_.notification.tid, message, flags_, compat, where);
  seen = std::move(message);
  return written;
}

void ReceiveOperation::Unnote() const {
  if (call_.slot != nullptr) {
    call_.slot->End(0);
  }
}

void ReceiveOperation::Translate(ReceivedMessage& message) const {
  const auto from = core_->container()->datagrams->Meaning(cookie_, ReadEndpoint(message.sender));
  if (from) {
    message.sender = WriteEndpoint(*from, socket_.domain);
  }
}

ssize_t ReceiveOperation::ReceiveOne(const Reception& where, bool& gone) {
  CarriedSockets& carried = *core_->container()->datagrams;
  const bool peek = (flags_ & MSG_PEEK) != 0;
  std::optional<ReceivedMessage> message = carried.TakeKept(cookie_, peek);
  std::optional<ReceivedMessage> seen;
  ssize_t written = 0;
  if (!message) {
    if (blocking_ && !peek && !array_ && where.control_room == 0) {
      written = WriteAhead(where, seen, gone);
      if (gone || (!seen && written < 0)) {
        return written;  // an error that the socket had, it has no more
      }
      if (seen && written >= 0 && call_.slot != nullptr) {
        call_.slot->Begin(JournalAct::kSend, written);
      }
    }
    message.emplace();
    if (const int error = TakeMessage(socket_.fd.get(), flags_ & ~MSG_WAITFORONE, where,
                                      call_.kind.compat, *message);
        error != 0) {
      Unnote();
      return -error;
    }
    Translate(*message);
  }
  // Natively a caller that a signal has taken away has not received anything either.
  if (!core_->notify().IdValid(call_.notification.id)) {
    gone = true;
    Unnote();
    if (!peek) {
      carried.Keep(cookie_, std::move(*message));
    }
    return 0;
  }
  // Another thread may have taken the one that was seen.
  if (!seen || *seen != *message) {
    Unnote();
    written = WriteMessage(call_.notification.tid, *message, flags_, call_.kind.compat, where);
  }
  if (!peek && written >= 0 && taken_.size() < kMaxTaken) {
    taken_.push_back(std::move(*message));
  }
  return written;
}

std::optional<Answer> ReceiveOperation::Step(const Stepper& /*stepper*/) {
  // A caller that has left must not take a datagram from those who still wait for one.
  bool gone = !core_->notify().IdValid(call_.notification.id);
  const size_t count = array_ ? array_->count : 1;
  while (!gone && next_ < count) {
    Reception located;
    if (array_) {
      if (const int error = Locate(located); error != 0) {
        return Finish(error);
      }
    }
    const ssize_t got = ReceiveOne(array_ ? located : single_, gone);
    if (gone) {
      break;
    }
    if (got == -EAGAIN && may_wait()) {
      if (!IsShutDown(socket_.fd.get())) {
        return std::nullopt;
      }
      if (!array_) {
        return Answer::Performed(0, 0);
      }
      return Finish(0);
    }
    if (got < 0) {
      return Finish(static_cast<int>(-got));
    }
    if (!array_) {
      return Received(got);
    }
    if (!Record(static_cast<size_t>(got))) {
      return Finish(EFAULT);
    }
    ++next_;
    if (array_->until && Clock::now() >= *array_->until) {
      break;
    }
  }
  if (gone && next_ == 0) {
    return Answer::None();
  }
  return Finish(0);
}

Answer ReceiveOperation::Received(int64_t value) {
  Answer answer = Answer::Performed(value, 0);
  if (!taken_.empty() && next_ <= taken_.size()) {
    answer.take_back = std::make_unique<std::function<void()>>(
        [sockets = core_->container()->datagrams, cookie = cookie_,
         taken = std::make_shared<std::vector<ReceivedMessage>>(std::move(taken_))] {
          for (ReceivedMessage& message : *taken) {
            sockets->Keep(cookie, std::move(message));
          }
        });
  }
  return answer;
}

Answer ReceiveOperation::Finish(int error) {
  if (next_ == 0) {
    return Answer::Performed(0, error);
  }
  if (array_ && array_->until && !WriteTimeLeft(call_.notification.tid, *array_)) {
    return Answer::Performed(0, EFAULT);
  }
  return Received(static_cast<int64_t>(next_));
}

std::optional<Answer> ReceiveOperation::Abandon() {
  if (next_ == 0) {
    return std::nullopt;
  }
  Answer answer = Received(static_cast<int64_t>(next_));
  if (answer.take_back == nullptr) {
    return answer;
  }
  (*answer.take_back)();
  return std::nullopt;
}

}  // namespace oakum::agent
