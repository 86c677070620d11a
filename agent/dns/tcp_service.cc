#include "agent/dns/tcp_service.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "agent/dns/message.h"

namespace oakum::agent::dns {

// Closed by leaving the service's set; answers that come later find a dead weak_ptr.
class TcpService::Stream : public std::enable_shared_from_this<Stream> {
 public:
  Stream(TcpService& service, UniqueFd socket, Handler handler)
      : service_(service), socket_(std::move(socket)), handler_(std::move(handler)) {}
  ~Stream() {
    service_.loop_.Remove(socket_.get());
    service_.loop_.RemoveTimer(timer_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  [[nodiscard]] bool Start() {
    // Weak, as in each callback: the loop may hold it a little longer than the service its stream.
    auto on_event = [weak = weak_from_this()](uint32_t events) {
      if (const auto self = weak.lock()) {
        self->Handle(events);
      }
    };
    if (!service_.loop_.Add(socket_.get(), events_, std::move(on_event))) {
      return false;
    }
    ArmTimer();
    return true;
  }

 private:
  void Handle(uint32_t events) {
    // No one is left to read an answer (epoll_ctl(2)); a peer that only stopped sending is not
    // that.
    if ((events & (EPOLLHUP | EPOLLERR)) != 0 || ((events & EPOLLIN) != 0 && !Read())) {
      Close();
      return;
    }
    Proceed();
  }

  // Takes queries, sends answers, and says what to wait for.
  void Proceed() {
    if (proceeding_) {
      return;  // an answer that came at once: whoever asked goes on
    }
    proceeding_ = true;
    const bool ok = TakeQueries() && Write();
    proceeding_ = false;
    if (!ok || (ended_ && pending_ == 0 && out_.empty())) {
      Close();
      return;
    }
    const uint32_t wanted =
        (ended_ || IsBusy() ? 0U : uint32_t{EPOLLIN}) | (out_.empty() ? 0U : uint32_t{EPOLLOUT});
    if (wanted != events_ && service_.loop_.Modify(socket_.get(), wanted)) {
      events_ = wanted;
    }
  }

  [[nodiscard]] bool IsBusy() const { return pending_ >= kMaxPending || out_.size() >= kMaxOutput; }

  [[nodiscard]] bool Read() {
    std::array<char, 2 + kMaxQuery> buffer{};
    // weak_ptr::lock, up the stack, is no mutex's.
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    ended_ = got == 0;
    in_.append(buffer.data(), static_cast<size_t>(got));
    ArmTimer();
    return true;
  }

  [[nodiscard]] bool TakeQueries() {
    size_t at = 0;
    while (in_.size() - at >= 2 && !IsBusy() && !bad_) {
      const size_t size = ReadId(std::string_view(in_).substr(at));  // 16 bits all the same
      if (size < kHeaderSize || size > kMaxQuery) {
        return false;
      }
      if (in_.size() - at < 2 + size) {
        break;
      }
      ++pending_;
      handler_(std::string_view(in_).substr(at + 2, size),
               [weak = weak_from_this()](const std::string& answer) {
                 if (const auto self = weak.lock()) {
                   self->Answered(answer);
                 }
               });
      at += 2 + size;
    }
    in_.erase(0, at);
    return !bad_;
  }

  void Answered(const std::string& answer) {
    --pending_;
    bad_ = bad_ || answer.empty() || answer.size() > kMaxMessage;
    if (!bad_) {
      out_.push_back(static_cast<char>(answer.size() >> 8));
      out_.push_back(static_cast<char>(answer.size() & 0xff));
      out_ += answer;
    }
    Proceed();
  }

  [[nodiscard]] bool Write() {
    size_t sent = 0;
    while (sent < out_.size()) {
      const ssize_t put =
          send(socket_.get(), out_.data() + sent, out_.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0 && errno == EINTR) {
        continue;
      }
      if (put < 0 && errno != EAGAIN) {
        return false;
      }
      if (put < 0) {
        break;
      }
      sent += static_cast<size_t>(put);
    }
    out_.erase(0, sent);
    if (sent > 0) {
      ArmTimer();
    }
    return true;
  }

  void ArmTimer() {
    service_.loop_.RemoveTimer(timer_);
    timer_ = service_.loop_.AddTimer(service_.idle_, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) {
        self->Close();
      }
    });
  }

  void Close() { service_.streams_.erase(shared_from_this()); }

  TcpService& service_;
  const UniqueFd socket_;
  const Handler handler_;
  uint32_t events_ = EPOLLIN;
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
  std::string in_;
  std::string out_;
  size_t pending_ = 0;
  bool ended_ = false;       // nothing more will come
  bool bad_ = false;         // what came was no DNS
  bool proceeding_ = false;  // Proceed is on the stack
};

TcpService::~TcpService() { streams_.clear(); }

void TcpService::Serve(UniqueFd stream, Handler handler) {
  if (streams_.size() >= kMaxStreams) {
    return;
  }
  const auto added = std::make_shared<Stream>(*this, std::move(stream), std::move(handler));
  if (added->Start()) {
    streams_.insert(added);
  }
}

}  // namespace oakum::agent::dns
