#include "agent/proxy/dial.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "agent/proxy/handshake.h"
#include "agent/proxy/proxy_channel.h"
#include "agent/proxy/proxy_socket.h"
#include "agent/proxy/ready_proxies.h"
#include "base/error.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

using Clock = EventLoop::Clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

// To find, connect to and authenticate one URL's proxy; what the destination takes comes on top.
constexpr seconds kReachTimeout{10};
// unix(7): connect(2) on a non-blocking socket says EAGAIN while the backlog is full, and there is
// nothing to wait for.
constexpr milliseconds kBacklogRetry{5};
constexpr milliseconds kShortageRetry{10};
constexpr size_t kMaxSteps = 64;  // of one callback; then others have their turn

std::string Text(int error) { return std::generic_category().message(error); }

class LoopDial final : public Dial {
 public:
  LoopDial(EventLoop& loop, Upstreams& upstreams, DialRequest request,
           std::function<void(DialResult)> done)
      : loop_(loop),
        upstreams_(upstreams),
        request_(std::move(request)),
        done_(std::move(done)),
        order_(upstreams.Order(*request_.proxy)),
        channel_(upstreams.tls()) {
    timer_ = loop_.AddTimer({}, [this] { TryNext(); });
  }

  ~LoopDial() override { Reset(); }

 private:
  [[nodiscard]] const policy::ProxyUrl& url() const { return request_.proxy->urls[order_[at_]]; }

  // Gives up the attempt that is under way.
  void Reset() {
    loop_.RemoveTimer(timer_);
    loop_.RemoveTimer(retry_);
    Unwatch();
    if (question_) {
      loop_.Remove(HostResolver::ReadyFd(*question_));
      question_.reset();
    }
    channel_.Close();
    handshake_.reset();
    addresses_.clear();
  }

  void Unwatch() {
    if (watched_ != 0) {
      loop_.Remove(channel_.fd());
      watched_ = 0;
    }
  }

  // False when the attempt has failed.
  [[nodiscard]] bool Watch(uint32_t events) {
    if (watched_ == events) {
      return true;
    }
    auto watched = watched_ != 0 ? loop_.Modify(channel_.fd(), events)
                                 : loop_.Add(channel_.fd(), events, [this](uint32_t) { Ready(); });
    if (!watched) {
      Failed({ENOBUFS, watched.error().what, false}, false);
      return false;
    }
    watched_ = events;
    Prepare();  // while there is nothing else to do
    return true;
  }

  void Prepare() {
    if (!std::exchange(prepared_, true)) {
      PrepareRelayed(channel_.fd());
    }
  }

  void SetTimeout(Clock::duration time) {
    loop_.RemoveTimer(timer_);
    timer_ = loop_.AddTimer(time, [this, time] {
      unheard_ = false;
      const auto whole = std::chrono::ceil<seconds>(time).count();
      const bool requested = phase_ == Phase::kSpeaking && handshake_->requested();
      // What comes so late after the request may be the destination's fault: the program has waited
      // long enough. But HTTP has no sign of life before, so the next attempt asks another one.
      Failed({ETIMEDOUT, fmt::format("did not answer within {} s", whole), requested},
             !requested || url().speaks_http());
    });
  }

  void TryNext() {
    if (at_ == order_.size()) {
      return Finish({.failure = last_, .stream = {}});
    }
    handshake_ = StartHandshake(url(), ProxyQuestion{.command = request_.command,
                                                     .target = request_.target,
                                                     .credentials = request_.credentials,
                                                     .http_head = request_.http_head});
    if (handshake_->failure()) {
      return Failed(*handshake_->failure(), false);
    }
    if (TakeReady()) {
      return;
    }
    SetTimeout(kReachTimeout);
    phase_ = Phase::kReaching;
    if (!url().unix_path.empty()) {
      return Connect(AF_UNIX, UnixSockaddr(url().unix_path));
    }
    if (url().endpoint) {
      addresses_ = {*url().endpoint};
      return ConnectNext({EHOSTUNREACH, "no address", false});
    }
    auto question = upstreams_.hosts().Ask(url().host);
    if (!question) {
      return Failed({EHOSTUNREACH, question.error().what, false}, false);
    }
    question_ = std::move(*question);
    if (auto added =
            loop_.Add(HostResolver::ReadyFd(*question_), EPOLLIN, [this](uint32_t) { Resolved(); });
        !added) {
      question_.reset();
      Failed({EHOSTUNREACH, added.error().what, false}, false);
    }
  }

  // False when there is none. One that has been closed is found out by speaking.
  [[nodiscard]] bool TakeReady() {
    if (request_.ready == nullptr || tried_ready_ || request_.command != ProxyCommand::kConnect) {
      return false;
    }
    tried_ready_ = true;
    auto ready = request_.ready->Take(url(), request_.credentials, request_.network);
    if (!ready) {
      return false;
    }
    channel_.Open(std::move(*ready));
    prepared_ = true;
    unheard_ = true;
    handshake_->SkipGreeting();
    Speak();
    return true;
  }

  void Resolved() {
    loop_.Remove(HostResolver::ReadyFd(*question_));
    const HostResolver::Answer answer = HostResolver::Take(*question_);
    question_.reset();
    for (const policy::IpAddress& ip : answer.addresses) {
      addresses_.push_back({.ip = ip, .port = url().port});
    }
    std::ranges::reverse(addresses_);  // taken from the end
    ConnectNext({EHOSTUNREACH, "its name cannot be resolved: " + answer.error, false});
  }

  // `failure`: of the address before.
  void ConnectNext(const ProxyFailure& failure) {
    if (addresses_.empty()) {
      return Failed(failure, true);
    }
    const policy::Endpoint endpoint = addresses_.back();
    addresses_.pop_back();
    Connect(endpoint.ip.IsV4() ? AF_INET : AF_INET6, InetSockaddr(endpoint));
  }

  void Connect(int domain, const SockaddrCopy& address) {
    UniqueFd socket;
    if (domain != AF_UNIX && request_.make_socket) {
      errno = EBADF;
      socket = request_.make_socket(domain);
      if (socket && fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) {
        return ConnectFailed(errno);
      }
    } else {
      socket = UniqueFd(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    }
    if (!socket && IsShortage(errno)) {
      // Until there is room again, or the time to reach a proxy is over.
      retry_ =
          loop_.AddTimer(kShortageRetry, [this, domain, address] { Connect(domain, address); });
      return;
    }
    if (!socket) {
      return ConnectFailed(errno);
    }
    channel_.Open(std::move(socket));
    prepared_ = domain == AF_UNIX;
    ConnectOnce(address);
  }

  void ConnectOnce(const SockaddrCopy& address) {
    if (connect(channel_.fd(), address.get(), address.length) == 0) {
      return Connected();
    }
    const int error = errno;
    if (error == EINPROGRESS) {
      phase_ = Phase::kConnecting;
      return TryConnected();
    }
    if (error == EAGAIN && address.storage.ss_family == AF_UNIX) {
      retry_ = loop_.AddTimer(kBacklogRetry, [this, address] { ConnectOnce(address); });
      return;
    }
    ConnectFailed(error);
  }

  // A proxy on this machine mostly has answered before connect(2) returns.
  void TryConnected() {
    if (SpeaksTls(url())) {
      (void)Watch(EPOLLOUT);
      return;
    }
    // What it is told first tells whether it has: EAGAIN, or what connect(2) would have said.
    const ssize_t put = channel_.Put(handshake_->to_send());
    if (put >= 0) {
      handshake_->Sent(static_cast<size_t>(put));
      return Speak();
    }
    if (errno != EAGAIN) {
      return ConnectFailed(errno);
    }
    (void)Watch(EPOLLOUT);
  }

  void ConnectFailed(int error) {
    Unwatch();
    channel_.Close();
    ConnectNext({FittingErrno(error), "connect: " + Text(error), false});
  }

  void Connected() {
    if (!SpeaksTls(url())) {
      return Speak();
    }
    const std::string& set = request_.proxy->server_name;
    const std::string peer = !set.empty()          ? set
                             : !url().host.empty() ? url().host
                             : url().endpoint      ? url().endpoint->ip.ToString()
                                                   : std::string();
    if (request_.tls_process != nullptr) {  // which takes the socket as it is
      Prepare();
      Unwatch();
    }
    phase_ = Phase::kTls;
    Encrypt(channel_.StartTls(peer, request_.proxy->ca_file, request_.tls_process));
  }

  void Encrypt(const ProxyChannel::TlsResult& tls) {
    if (!tls) {
      return Failed(tls.error().failure, tls.error().down);
    }
    switch (*tls) {
      case ProxyChannel::Tls::kEstablished:
        return Speak();
      case ProxyChannel::Tls::kWaits:
        (void)Watch(channel_.wants(EPOLLIN));
        return;
    }
  }

  void Speak() {
    phase_ = Phase::kSpeaking;
    SetTimeout(handshake_->requested() ? AnswerTimeout()
                                       : std::min<Clock::duration>(kReachTimeout, AnswerTimeout()));
    Converse();
  }

  [[nodiscard]] Clock::duration AnswerTimeout() const { return request_.proxy->timeout; }

  void Ready() {
    switch (phase_) {
      case Phase::kReaching:
        return;
      case Phase::kConnecting: {
        int error = 0;
        socklen_t length = sizeof error;
        if (getsockopt(channel_.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
          error = errno;
        }
        return error == 0 ? Connected() : ConnectFailed(error);
      }
      case Phase::kTls:
        if (channel_.in_process()) {  // which may give its socket back
          Unwatch();
        }
        return Encrypt(channel_.ContinueTls());
      case Phase::kSpeaking:
        return Converse();
    }
  }

  void Converse() {
    if (handshake_->done()) {
      return Succeed();
    }
    for (size_t step = 0; step < kMaxSteps; ++step) {
      const bool sends = !handshake_->to_send().empty();
      const bool was_requested = handshake_->requested();
      if (sends) {
        const ssize_t put = channel_.Put(handshake_->to_send());
        if (put < 0) {
          return Waits(EPOLLOUT);
        }
        handshake_->Sent(static_cast<size_t>(put));
      } else if (!Listen()) {
        return;
      }
      if (handshake_->failure()) {
        return Refused();
      }
      if (handshake_->done()) {
        return Succeed();
      }
      if (handshake_->requested() && !was_requested) {
        SetTimeout(AnswerTimeout());
      }
    }
    // Decrypted bytes make no socket readable.
    retry_ = loop_.AddTimer({}, [this] { Converse(); });
  }

  // False when it waits or has failed.
  bool Listen() {
    const bool peek = handshake_->peeks();
    const size_t size = std::min(handshake_->wants(), buffer_.size());
    const ssize_t got = channel_.Get(buffer_.data(), size, peek);
    if (got < 0) {
      Waits(EPOLLIN);
      return false;
    }
    if (got == 0) {
      handshake_->Closed();
      return true;
    }
    unheard_ = false;
    const size_t taken = handshake_->Take({buffer_.data(), static_cast<size_t>(got)});
    // What was looked at is there: these take it off at once.
    for (size_t left = peek ? taken : 0; left > 0;) {
      const ssize_t dropped = channel_.Get(buffer_.data(), left, false);
      if (dropped <= 0) {
        Failed({ECONNRESET, "closed the connection " + handshake_->Where(), false}, true);
        return false;
      }
      left -= static_cast<size_t>(dropped);
    }
    return true;
  }

  void Waits(uint32_t events) {
    const int error = errno;
    if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR) {
      (void)Watch(channel_.wants(events));
      return;
    }
    Failed({FittingErrno(error), fmt::format("{} {}", channel_.Problem(error), handshake_->Where()),
            false},
           !handshake_->requested());
  }

  void Refused() {
    ProxyFailure failure = *handshake_->failure();
    const bool requested = handshake_->requested();
    if (request_.command == ProxyCommand::kUdpAssociate && requested) {
      failure.destination = false;  // there is none yet
      if (failure.errno_value != ECONNRESET) {
        upstreams_.SetUdp(url(), Upstreams::Udp::kNo);
      }
    }
    // After the request only what no destination can cause speaks against the proxy itself, or one
    // container could have the others' traffic go elsewhere.
    const int error = failure.errno_value;
    Failed(failure, !failure.destination && (!requested || error == EPROTO || error == EACCES));
  }

  // `down`: the proxy does not work, for anybody.
  void Failed(ProxyFailure failure, bool down) {
    // Proxies close what is silent for long: a new connection tells.
    if (std::exchange(unheard_, false)) {
      Reset();
      timer_ = loop_.AddTimer({}, [this] { TryNext(); });
      return;
    }
    // What is made ready says nothing about a proxy: the next one that is needed will.
    if (down && request_.command != ProxyCommand::kGreet) {
      upstreams_.Failed(url());
    }
    texts_ += fmt::format("{}{}: {}", texts_.empty() ? "" : "; ", ProxyLabel(url()), failure.text);
    failure.text = texts_;
    last_ = std::move(failure);
    Reset();
    at_ = last_->destination || request_.command == ProxyCommand::kGreet ? order_.size() : at_ + 1;
    timer_ = loop_.AddTimer({}, [this] { TryNext(); });
  }

  void Succeed() {
    upstreams_.Worked(url());
    ProxyStream stream;
    stream.url = &url();
    stream.bound = handshake_->bound();
    stream.resolved_name = handshake_->resolved_name();
    if (request_.command == ProxyCommand::kUdpAssociate) {
      upstreams_.SetUdp(url(), Upstreams::Udp::kYes);
      if (policy::CanonicalDestination(stream.bound.ip) != stream.bound.ip) {
        stream.bound.ip = PeerAddress();
      }
    }
    Unwatch();
    Prepare();
    channel_.Release(stream);
    Finish({.failure = std::nullopt, .stream = std::move(stream)});
  }

  // Where the proxy is, when it says 0.0.0.0 for its own address.
  [[nodiscard]] policy::IpAddress PeerAddress() const {
    SockaddrCopy peer;
    peer.length = sizeof peer.storage;
    if (getpeername(channel_.fd(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.length) != 0) {
      return {};
    }
    return ReadEndpoint(peer).ip;
  }

  void Finish(DialResult result) {
    Reset();
    const auto done = std::move(done_);  // which may destroy this
    done(std::move(result));
  }

  enum class Phase : uint8_t { kReaching, kConnecting, kTls, kSpeaking };

  EventLoop& loop_;
  Upstreams& upstreams_;
  const DialRequest request_;
  std::function<void(DialResult)> done_;
  const std::vector<size_t> order_;
  size_t at_ = 0;  // in order_
  Phase phase_ = Phase::kReaching;
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
  EventLoop::TimerId retry_ = EventLoop::TimerId::kNone;
  std::shared_ptr<HostResolver::Question> question_;
  std::vector<policy::Endpoint> addresses_;  // not tried yet, the next one last
  ProxyChannel channel_;
  uint32_t watched_ = 0;   // the events of channel_ in the loop
  bool prepared_ = false;  // channel_'s socket
  bool tried_ready_ = false;
  bool unheard_ = false;  // channel_ was kept ready, and the proxy has not said anything since
  std::unique_ptr<Handshake> handshake_;
  std::array<char, 4096> buffer_{};
  std::string texts_;
  std::optional<ProxyFailure> last_;
};

}  // namespace

std::unique_ptr<Dial> Dial::Start(EventLoop& loop, Upstreams& upstreams, DialRequest request,
                                  std::function<void(DialResult)> done) {
  return std::make_unique<LoopDial>(loop, upstreams, std::move(request), std::move(done));
}

}  // namespace oakum::agent
