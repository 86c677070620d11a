#include "agent/proxy/direct_handshake.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "agent/caller/sockaddr.h"
#include "agent/proxy/proxy_socket.h"
#include "agent/proxy/tcp_socket.h"

namespace oakum::agent {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// As in a dial.
constexpr seconds kReachTimeout{10};
// How often time is looked at: a wait of the reactor's is not taken back when the socket is ready
// first, so it must not be long.
constexpr milliseconds kLook{1000};
// Where somebody else may bring it to its end.
constexpr milliseconds kLookAtOthers{10};

}  // namespace

DirectHandshake::DirectHandshake(Upstreams& upstreams, UniqueFd socket, int domain, uint64_t cookie,
                                 DirectRequest request)
    : upstreams_(upstreams),
      domain_(domain),
      cookie_(cookie),
      owner_(request.owner),
      target_(request.target),
      socket_(std::move(socket)),
      request_(std::move(request)),
      order_(upstreams.Order(*request_.proxy)) {}

std::optional<int> DirectHandshake::result() const {
  const std::lock_guard lock(mutex_);
  return result_;
}

UniqueFd DirectHandshake::DuplicateSocket() const {
  const std::lock_guard lock(mutex_);
  return socket_ ? UniqueFd(fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0)) : UniqueFd();
}

bool DirectHandshake::LeadsTo(const ProxyTarget& target) const {
  return target_.name == target.name && target_.address == target.address;
}

DirectRequest DirectHandshake::TakeRequest() {
  const std::lock_guard lock(mutex_);
  return std::move(request_);
}

Wait DirectHandshake::wait() const {
  const auto until = std::chrono::ceil<milliseconds>(deadline_.load() - Clock::now());
  return {events_.load(), std::clamp(until, milliseconds(1), left() ? kLookAtOthers : kLook)};
}

DirectHandshake::Begun DirectHandshake::Begin(UringCalls& uring) {
  const std::lock_guard lock(mutex_);
  handshake_ = Converse();
  const int error = handshake_->failure() ? 0 : Connect(&uring);
  switch (error) {
    case EISCONN:
    case EALREADY:
    case EINVAL:  // listening
      result_ = error;
      over_.store(true, std::memory_order_release);
      socket_.Reset();
      return Begun::kNotOurs;
    case ENETUNREACH:
    case EAFNOSUPPORT:
      if (request_.proxy->from == policy::ProxyFrom::kAuto) {
        result_ = EALREADY;  // for a thread that has joined meanwhile
        over_.store(true, std::memory_order_release);
        return Begun::kFallback;
      }
      break;
    default:
      break;
  }
  if (Started(&uring, error) == Progress::kGoesOn) {
    (void)StepLocked(&uring);
  }
  return result_ ? Begun::kOver : Begun::kUnderWay;
}

std::optional<int> DirectHandshake::Step(UringCalls* uring) {
  const std::lock_guard lock(mutex_);
  return StepLocked(uring);
}

std::optional<int> DirectHandshake::StepLocked(UringCalls* uring) {
  Progress progress = Progress::kGoesOn;
  while (!result_ && progress == Progress::kGoesOn) {
    if (Clock::now() >= deadline_.load()) {
      progress = TimedOut(uring);
      continue;
    }
    switch (phase_) {
      case Phase::kConnecting:
        progress = GoOnConnecting(uring);
        break;
      case Phase::kSpeaking:
        progress = GoOnSpeaking(uring);
        break;
    }
  }
  return result_;
}

int DirectHandshake::Connect(UringCalls* uring) {
  deadline_ = Clock::now() + kReachTimeout;
  const policy::Endpoint& endpoint = *url().endpoint;
  if (domain_ == AF_INET && !endpoint.ip.IsV4()) {
    return EAFNOSUPPORT;
  }
  std::unique_ptr<UringCalls> own;
  if (uring == nullptr) {
    auto made = UringCalls::Create(true);
    if (!made) {
      return made.error().code;
    }
    own = std::move(*made);
    uring = own.get();
  }
  const SockaddrCopy address = InetSockaddr(endpoint, domain_ == AF_INET6);
  return uring->Connect(socket_.get(), address.get(), address.length);
}

std::unique_ptr<Handshake> DirectHandshake::Converse() const {
  return StartHandshake(url(), {.command = ProxyCommand::kConnect,
                                .target = request_.target,
                                .credentials = request_.credentials,
                                .http_head = {}});
}

// `error`: what connect(2) to the URL has said.
DirectHandshake::Progress DirectHandshake::Started(UringCalls* uring, int error) {
  if (handshake_->failure()) {
    return Failed(uring, *handshake_->failure(), false);
  }
  if (error == EINPROGRESS) {
    phase_ = Phase::kConnecting;
    return Waits(EPOLLOUT);
  }
  if (error != 0) {
    return NotConnected(uring, error);
  }
  Speak();
  return Progress::kGoesOn;
}

DirectHandshake::Progress DirectHandshake::NotConnected(UringCalls* uring, int error) {
  return Failed(uring,
                {FittingErrno(error), "connect: " + std::generic_category().message(error), false},
                true);
}

DirectHandshake::Progress DirectHandshake::Waits(uint32_t events) {
  events_ = events;
  return Progress::kWaits;
}

DirectHandshake::Progress DirectHandshake::GoOnConnecting(UringCalls* uring) {
  const auto state = TcpState(socket_.get());
  if (state == TCP_SYN_SENT || state == TCP_SYN_RECV) {
    return Waits(EPOLLOUT);
  }
  if (!state || state == TCP_CLOSE) {
    const int pending = TakeSocketError(socket_.get());
    return NotConnected(uring, pending != 0 ? pending : ECONNABORTED);
  }
  // Established: the kernel's socket learns of it by another connect(2) (__inet_stream_connect(),
  // SS_CONNECTING), as a caller that waits would have it done.
  const Clock::time_point deadline = deadline_.load();
  const int error = Connect(uring);
  deadline_ = deadline;
  if (error == EINPROGRESS || error == EALREADY) {
    return Waits(EPOLLOUT);
  }
  if (error != 0 && error != EISCONN) {
    return NotConnected(uring, error);
  }
  Speak();
  return Progress::kGoesOn;
}

void DirectHandshake::Speak() {
  phase_ = Phase::kSpeaking;
  const Clock::duration answer = request_.proxy->timeout;
  deadline_ = Clock::now() +
              (handshake_->requested() ? answer : std::min<Clock::duration>(kReachTimeout, answer));
}

// A thread of the container may have disconnected the socket and connected it to something else
// that the policy allows: then this is not the proxy.
bool DirectHandshake::IsAtProxy() const {
  SockaddrCopy peer;
  peer.length = sizeof peer.storage;
  return getpeername(socket_.get(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.length) ==
             0 &&
         ReadEndpoint(peer) == *url().endpoint;
}

DirectHandshake::Progress DirectHandshake::GoOnSpeaking(UringCalls* uring) {
  const bool was_requested = handshake_->requested();
  const std::string_view out = handshake_->to_send();
  if (!out.empty()) {
    if (!IsAtProxy()) {
      return Failed(uring, {ECONNRESET, "the program has disconnected the socket", true}, false);
    }
    const ssize_t put = send(socket_.get(), out.data(), out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) {
      return Interrupted(uring, EPOLLOUT);
    }
    handshake_->Sent(static_cast<size_t>(put));
  } else if (const Progress progress = Listen(uring); progress != Progress::kGoesOn) {
    return progress;
  }
  if (handshake_->failure()) {
    const ProxyFailure failure = *handshake_->failure();
    const bool down =
        !failure.destination && (!handshake_->requested() || failure.errno_value == EPROTO ||
                                 failure.errno_value == EACCES);
    return Failed(uring, failure, down);
  }
  if (handshake_->done()) {
    if (!IsAtProxy()) {
      return Failed(uring, {ECONNRESET, "the program has disconnected the socket", true}, false);
    }
    upstreams_.Worked(url());
    End(std::nullopt, 0);
    return Progress::kOver;
  }
  if (handshake_->requested() && !was_requested) {
    deadline_ = Clock::now() + request_.proxy->timeout;
  }
  return Progress::kGoesOn;
}

DirectHandshake::Progress DirectHandshake::Listen(UringCalls* uring) {
  std::array<char, 4096> buffer;
  const bool peeks = handshake_->peeks();
  const size_t size = std::min(handshake_->wants(), buffer.size());
  const int flags = MSG_DONTWAIT | (peeks ? MSG_PEEK : 0);
  const ssize_t got = recv(socket_.get(), buffer.data(), size, flags);  // NOLINT: does not wait
  if (got < 0) {
    return Interrupted(uring, EPOLLIN);
  }
  if (got == 0) {
    handshake_->Closed();
    return Progress::kGoesOn;
  }
  const size_t taken = handshake_->Take({buffer.data(), static_cast<size_t>(got)});
  if (!peeks || taken == 0) {
    return Progress::kGoesOn;
  }
  const ssize_t dropped =
      recv(socket_.get(), buffer.data(), taken, MSG_DONTWAIT);  // NOLINT: does not wait
  if (dropped != static_cast<ssize_t>(taken)) {
    return Failed(uring, {ECONNRESET, "the program has read from the socket", true}, false);
  }
  return Progress::kGoesOn;
}

// errno says why a call on the socket did nothing.
DirectHandshake::Progress DirectHandshake::Interrupted(UringCalls* uring, uint32_t events) {
  const int error = errno;
  if (error == EAGAIN || error == EWOULDBLOCK) {
    return Waits(events);
  }
  if (error == EINTR) {
    return Progress::kGoesOn;
  }
  return Failed(
      uring,
      {FittingErrno(error),
       fmt::format("{} {}", std::generic_category().message(error), handshake_->Where()), false},
      !handshake_->requested());
}

DirectHandshake::Progress DirectHandshake::TimedOut(UringCalls* uring) {
  const bool speaks = phase_ == Phase::kSpeaking;
  const bool requested = speaks && handshake_->requested();
  const seconds limit = requested ? request_.proxy->timeout
                        : speaks  ? std::min(kReachTimeout, request_.proxy->timeout)
                                  : kReachTimeout;
  return Failed(uring,
                {ETIMEDOUT, fmt::format("did not answer within {} s", limit.count()), requested},
                !requested || url().speaks_http());
}

DirectHandshake::Progress DirectHandshake::Failed(UringCalls* uring, ProxyFailure failure,
                                                  bool down) {
  if (down) {
    upstreams_.Failed(url());
  }
  texts_ += fmt::format("{}{}: {}", texts_.empty() ? "" : "; ", ProxyLabel(url()), failure.text);
  failure.text = texts_;
  ResetSocket();
  ++at_;
  if (failure.destination || at_ == order_.size()) {
    End(failure, failure.errno_value);
    return Progress::kOver;
  }
  handshake_ = Converse();
  return Started(uring, handshake_->failure() ? 0 : Connect(uring));
}

void DirectHandshake::ResetSocket() {
  sockaddr unspecified = {};
  unspecified.sa_family = AF_UNSPEC;
  [[maybe_unused]] const int ended = connect(socket_.get(), &unspecified, sizeof unspecified);
  (void)TakeSocketError(socket_.get());  // tcp_disconnect() leaves ECONNRESET
}

void DirectHandshake::End(const std::optional<ProxyFailure>& failure, int error) {
  result_ = error;
  if (request_.ended) {
    request_.ended(failure);
  }
  request_ = {};
  socket_.Reset();
  over_.store(true, std::memory_order_release);
}

void DirectHandshake::GiveUp() {
  const std::lock_guard lock(mutex_);
  if (!result_) {
    ResetSocket();
    End(ProxyFailure{ECONNABORTED, "given up: the program does not wait for it", true},
        ECONNABORTED);
  }
}

}  // namespace oakum::agent
