#include "agent/proxy/pump.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "agent/proxy/tls_stream.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

bool WouldBlock(int error) { return error == EAGAIN || error == EINTR; }

// Whether urgent data is what comes next (tcp(7), SIOCATMARK).
bool IsAtMark(int socket_fd) {
  int at_mark = 0;
  return ioctl(socket_fd, SIOCATMARK, &at_mark) == 0 && at_mark != 0;
}

// What it takes from one socket is never in this process's memory alone: it stays in that socket
// until the other one has it, or is in a pipe.
class SplicePump final : public Pump {
 public:
  SplicePump(int from_fd, int to_fd, PipePool& pipes, std::string early)
      : from_fd_(from_fd), to_fd_(to_fd), pipes_(pipes), early_(std::move(early)) {}
  SplicePump(int from_fd, int to_fd, PipePool& pipes, Pipe own)
      : from_fd_(from_fd), to_fd_(to_fd), pipes_(pipes), pipe_(std::move(own)), owns_(true) {}
  // Somebody else may hold its own one.
  ~SplicePump() override {
    if (!owns_) {
      pipes_.Give(std::move(pipe_));
    }
  }

  Owns OwnPipe() override {
    if (owns_) {
      return Owns::kPipe;
    }
    if (!pipe_ && !(pipe_ = PipePool::Make())) {
      return Owns::kNotNow;
    }
    if (!early_.empty()) {
      const int room = fcntl(pipe_.in.get(), F_GETPIPE_SZ);
      if (room < 0 || early_.size() > static_cast<size_t>(room) ||
          write(pipe_.in.get(), early_.data(), early_.size()) !=
              static_cast<ssize_t>(early_.size())) {
        return Owns::kNotNow;
      }
      pipe_.bytes = std::exchange(early_, {}).size();
    }
    owns_ = true;
    return Owns::kPipe;
  }
  const Pipe* pipe() const override { return owns_ ? &pipe_ : nullptr; }

  Status Run() override {
    size_t moved = 0;
    blocked_ = false;
    if (const auto status = PutEarly(); status) {
      return *status;
    }
    const bool idle = pipe_.bytes == 0 && !at_end_ && !owns_;
    if (idle && !std::exchange(much_, false)) {
      if (const auto status = CopyLittle(); status) {
        return *status;
      }
    }
    while (moved < kTurn) {
      if (!at_end_ && !pipe_ && !(pipe_ = pipes_.Take())) {
        // Through memory as long as this process has no room for a pipe.
        const auto status = IsShortage(errno) ? CopyLittle() : Status::kFailed;
        if (status) {
          return *status;
        }
        moved += kLittle;
        continue;
      }
      if (const auto status = Fill(moved == 0); status) {
        return *status;
      }
      if (pipe_.bytes == 0) {
        if (!owns_) {
          pipes_.Give(std::exchange(pipe_, Pipe()));
        }
        return at_end_ ? End() : Status::kWaiting;
      }
      const ssize_t sent = splice(pipe_.out.get(), nullptr, to_fd_, nullptr, pipe_.bytes,
                                  SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (sent < 0) {
        return WouldBlock(errno) ? Status::kWaiting : Status::kFailed;
      }
      pipe_.bytes -= static_cast<size_t>(sent);
      moved += static_cast<size_t>(sent);
      much_ = moved >= kLittle;
      if (owns_ && pipe_.bytes == 0 && got_little_ && !at_end_) {
        return Status::kWaiting;  // what has come meanwhile makes `from` readable
      }
    }
    return Status::kMore;
  }
  uint32_t from_events() const override {
    return to_events() == 0 && !at_end_ ? uint32_t{EPOLLIN} : 0;
  }
  uint32_t to_events() const override {
    return pipe_.bytes != 0 || blocked_ || !early_.empty() ? uint32_t{EPOLLOUT} : 0;
  }

 private:
  static constexpr size_t kLittle = size_t{16} * 1024;

  // Through a pipe a few bytes take more system calls than through memory. Nothing when there was
  // more than a little, or the end. Looked at first, and taken once they are passed on.
  std::optional<Status> CopyLittle() {
    std::array<char, kLittle> buffer;
    const ssize_t got = recv(from_fd_, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_PEEK);
    if (got < 0) {
      return WouldBlock(errno) ? Status::kWaiting : Status::kFailed;
    }
    if (got == 0) {
      at_end_ = true;
      return std::nullopt;
    }
    const auto size = static_cast<size_t>(got);
    const ssize_t put = send(to_fd_, buffer.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && !WouldBlock(errno)) {
      return Status::kFailed;
    }
    const size_t sent = put > 0 ? static_cast<size_t>(put) : 0;
    if (sent != 0 && !Discard(buffer.data(), sent)) {
      return Status::kFailed;
    }
    blocked_ = sent < size;
    much_ = blocked_;
    return blocked_ || size < buffer.size() ? std::optional(Status::kWaiting) : std::nullopt;
  }

  // Takes `size` bytes that were looked at before; MSG_TRUNC: of TCP without copying them (tcp(7)),
  // of a unix socket with a copy.
  bool Discard(char* buffer, size_t size) const {
    return recv(from_fd_, buffer, size, MSG_DONTWAIT | MSG_TRUNC) == static_cast<ssize_t>(size);
  }

  std::optional<Status> Fill(bool first) {
    if (at_end_) {
      return std::nullopt;
    }
    const ssize_t got = splice(from_fd_, nullptr, pipe_.in.get(), nullptr, PipePool::kPipeSize,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got > 0) {
      pipe_.bytes += static_cast<size_t>(got);
      got_little_ = static_cast<size_t>(got) < kLittle;
      if (owns_ && !got_little_ && !std::exchange(grown_, true)) {
        (void)fcntl(pipe_.in.get(), F_SETPIPE_SZ, PipePool::kPipeSize);
      }
    } else if (got == 0) {
      at_end_ = true;
    } else if (!WouldBlock(errno)) {
      return Status::kFailed;
    } else if (first && pipe_.bytes == 0 && (!owns_ || IsAtMark(from_fd_))) {
      // splice(2) stops before urgent data and says EAGAIN for ever (tcp_read_sock(),
      // net/ipv4/tcp.c); recv(2) goes past it, and with SO_OOBINLINE takes it along.
      return CopyLittle();
    }
    return std::nullopt;
  }

  Status End() const {
    if (shutdown(to_fd_, SHUT_WR) == 0) {
      return Status::kEnded;
    }
    // Whoever has gone before may have come as far, and further: it is closed in both directions.
    return owns_ && errno == ENOTCONN ? Status::kEnded : Status::kFailed;
  }

  // What was read before there was a relay.
  std::optional<Status> PutEarly() {
    while (!early_.empty()) {
      const ssize_t put = send(to_fd_, early_.data(), early_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0) {
        return WouldBlock(errno) ? Status::kWaiting : Status::kFailed;
      }
      early_.erase(0, static_cast<size_t>(put));
    }
    return std::nullopt;
  }

  const int from_fd_;
  const int to_fd_;
  PipePool& pipes_;
  std::string early_;  // before what is still to be read
  Pipe pipe_;
  bool owns_ = false;  // pipe_: else it goes back once it is empty
  bool grown_ = false;
  bool got_little_ = false;  // the last time
  bool at_end_ = false;
  bool blocked_ = false;  // `to` takes no more of what is still in `from`
  bool much_ = false;     // came the last time
};

// Where TLS is on one side: through memory.
class CopyPump final : public Pump {
 public:
  CopyPump(ProxyStream& from, ProxyStream& to, std::string early, Tap tap)
      : from_(from), to_(to), tap_(std::move(tap)), pending_(std::move(early)) {}

  Status Run() override {
    size_t moved = 0;
    from_events_ = 0;
    to_events_ = 0;
    for (;;) {
      if (sent_ == pending_.size() && !at_end_ && !Read()) {
        return Status::kFailed;
      }
      if (sent_ < pending_.size()) {
        const ssize_t sent = Write();
        if (sent < 0) {
          return to_events_ != 0 ? Status::kWaiting : Status::kFailed;
        }
        sent_ += static_cast<size_t>(sent);
        moved += static_cast<size_t>(sent);
        if (moved >= kTurn) {
          from_events_ = EPOLLIN;
          return Status::kMore;
        }
        continue;
      }
      std::string().swap(pending_);
      sent_ = 0;
      return at_end_ ? End() : Status::kWaiting;
    }
  }
  uint32_t from_events() const override { return from_events_; }
  uint32_t to_events() const override { return to_events_; }

 private:
  static constexpr size_t kBuffer = size_t{64} * 1024;

  bool Read() {
    pending_.resize(kBuffer);
    sent_ = 0;
    const ssize_t got = from_.tls != nullptr
                            ? from_.tls->Read(pending_.data(), pending_.size())
                            : recv(from_.fd.get(), pending_.data(), pending_.size(), MSG_DONTWAIT);
    const int error = errno;
    pending_.resize(got > 0 ? static_cast<size_t>(got) : 0);
    at_end_ = got == 0;
    if (got > 0 && tap_) {
      tap_(pending_);
    }
    if (got < 0 && WouldBlock(error)) {
      from_events_ = from_.tls != nullptr ? from_.tls->wants() : uint32_t{EPOLLIN};
      return true;
    }
    return got >= 0;
  }

  ssize_t Write() {
    const char* data = pending_.data() + sent_;
    const size_t size = pending_.size() - sent_;
    const ssize_t sent = to_.tls != nullptr
                             ? to_.tls->Write(data, size)
                             : send(to_.fd.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && WouldBlock(errno)) {
      to_events_ = to_.tls != nullptr ? to_.tls->wants() : uint32_t{EPOLLOUT};
    }
    return sent;
  }

  Status End() {
    if (to_.tls != nullptr && to_.tls->ShutdownWrite() != 0) {
      to_events_ = WouldBlock(errno) ? to_.tls->wants() : 0;
      return to_events_ != 0 ? Status::kWaiting : Status::kFailed;
    }
    return shutdown(to_.fd.get(), SHUT_WR) == 0 ? Status::kEnded : Status::kFailed;
  }

  ProxyStream& from_;
  ProxyStream& to_;
  const Tap tap_;
  std::string pending_;
  size_t sent_ = 0;  // of pending_
  bool at_end_ = false;
  uint32_t from_events_ = EPOLLIN;
  uint32_t to_events_ = 0;
};

}  // namespace

std::unique_ptr<Pump> Pump::Create(ProxyStream& from, ProxyStream& to, PipePool& pipes,
                                   std::string early, Tap tap) {
  if (from.tls == nullptr && to.tls == nullptr && !tap) {
    return std::make_unique<SplicePump>(from.fd.get(), to.fd.get(), pipes, std::move(early));
  }
  return std::make_unique<CopyPump>(from, to, std::move(early), std::move(tap));
}

std::unique_ptr<Pump> Pump::GoOn(ProxyStream& from, ProxyStream& to, PipePool& pipes, Pipe own) {
  return std::make_unique<SplicePump>(from.fd.get(), to.fd.get(), pipes, std::move(own));
}

}  // namespace oakum::agent
