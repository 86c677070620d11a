#include "agent/proxy/relay.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <chrono>
#include <utility>

#include "agent/caller/socket_kinds.h"
#include "agent/proxy/kept_names.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::microseconds kClosesWithin{50};

}  // namespace

void ResetOnClose(int socket_fd, bool reset) {
  const linger how = {reset ? 1 : 0, 0};
  (void)setsockopt(socket_fd, SOL_SOCKET, SO_LINGER, &how, sizeof how);
}

// tcp_disconnect(), net/ipv4/tcp.c
void AbortRelayed(int socket_fd) {
  sockaddr unspecified = {};
  unspecified.sa_family = AF_UNSPEC;
  if (connect(socket_fd, &unspecified, sizeof unspecified) != 0) {
    (void)shutdown(socket_fd, SHUT_RDWR);  // a unix socket
  }
}

KeptRelays::Result KeepRelayAs(KeptConnection& kept, const RelayOwner& owner, int near_fd,
                               const std::function<std::optional<KeptEnds>()>& ends) {
  return kept.Keep(
      *owner.container, owner.session,
      [&](uint64_t session) {
        return EncodeRelayName({session, SocketCookie(near_fd), owner.client, owner.asked});
      },
      ends);
}

Relay::Relay(Worker& worker, RelayRequest request)
    : worker_(worker),
      slot_(std::move(request.slot)),
      owner_(std::move(request.owner)),
      ended_(std::move(request.ended)),
      shared_(request.shared) {
  near_.stream.fd = std::move(request.near);
  far_.stream = std::move(request.far);
  ResetOnClose(near_.stream.fd.get(), true);
  ResetOnClose(far_.stream.fd.get(), true);
  out_.pump = Pump::Create(near_.stream, far_.stream, worker_.pipes(), std::move(request.early),
                           std::move(request.tap));
  in_.pump =
      Pump::Create(far_.stream, near_.stream, worker_.pipes(), std::move(request.early_back), {});
}

Relay::Relay(Worker& worker, KeptRelay kept)
    : worker_(worker),
      slot_(std::move(kept.slot)),
      owner_(std::move(kept.owner)),
      kept_(std::move(kept.kept)),
      shared_(true) {
  near_.stream.fd = std::move(kept.near);
  far_.stream = std::move(kept.far);
  out_.pump = Pump::GoOn(near_.stream, far_.stream, worker_.pipes(), std::move(kept.out_pipe));
  in_.pump = Pump::GoOn(far_.stream, near_.stream, worker_.pipes(), std::move(kept.in_pipe));
}

Relay::~Relay() {
  worker_.nursery().Leave(*this);
  worker_.loop().RemoveTimer(again_);
  if (!shared_) {
    worker_.loop().Forget(near_.stream.fd.get());
    worker_.loop().Forget(far_.stream.fd.get());
  } else {
    worker_.loop().Remove(near_.stream.fd.get());
    worker_.loop().Remove(far_.stream.fd.get());
  }
}

std::weak_ptr<Relay> Relay::Start(Worker& worker, RelayRequest request) {
  // Such bytes show in no event.
  const bool has_some = !request.early.empty() || request.far.tls != nullptr;
  auto relay = std::make_shared<Relay>(worker, std::move(request));
  worker.Keep(relay);
  const auto& container = relay->owner_.container;
  if (container != nullptr &&
      (!container->carrier().kept_relays().KeepsAtOnce() || !relay->KeepNow())) {
    worker.nursery().Enter(*relay);
  }
  if (has_some) {
    relay->Turn(true, true);
  } else {
    relay->Watch();
  }
  return relay;
}

bool Relay::KeepAhead(KeptRelay& relay, int near_fd, int far_fd) {
  const auto ends = [&]() -> std::optional<KeptEnds> {
    if (!(relay.out_pipe = PipePool::Make()) || !(relay.in_pipe = PipePool::Make())) {
      return std::nullopt;
    }
    ResetOnClose(near_fd, true);
    ResetOnClose(far_fd, true);
    return KeptEnds{near_fd, far_fd, relay.out_pipe.out.get(), relay.in_pipe.in.get()};
  };
  return KeepRelayAs(relay.kept, relay.owner, near_fd, ends) == KeptRelays::Result::kKept;
}

void Relay::GoOn(Worker& worker, KeptRelay kept) {
  auto relay = std::make_shared<Relay>(worker, std::move(kept));
  worker.Keep(relay);
  relay->Turn(true, true);
}

KeptEnds Relay::Ends() const {
  const int near_fd = near_.stream.fd.get();
  const Pipe* out = out_.pump->pipe();
  const Pipe* in = in_.pump->pipe();
  return out != nullptr && in != nullptr
             ? KeptEnds{near_fd, far_.stream.fd.get(), out->out.get(), in->in.get()}
             : KeptEnds{near_fd, -1, -1, -1};
}

bool Relay::KeepNow() {
  const auto ends = [this]() -> std::optional<KeptEnds> {
    for (const Way* way : {&out_, &in_}) {
      if (way->pump->OwnPipe() == Pump::Owns::kNotNow) {
        return std::nullopt;
      }
    }
    return Ends();
  };
  const auto result = KeepRelayAs(kept_, owner_, near_.stream.fd.get(), ends);
  shared_ = shared_ || result == KeptRelays::Result::kKept;
  return result != KeptRelays::Result::kLater;
}

void Relay::Ready(const Side& side, uint32_t events) {
  constexpr uint32_t kBroken = uint32_t{EPOLLERR} | uint32_t{EPOLLHUP};
  // TLS reads to write, and the other way round.
  const bool reads = (events & (EPOLLIN | kBroken)) != 0 || far_.stream.tls != nullptr;
  const bool writes = (events & (EPOLLOUT | kBroken)) != 0 || far_.stream.tls != nullptr;
  const bool is_near = &side == &near_;
  Turn(is_near ? reads : writes, is_near ? writes : reads);
}

void Relay::Turn(bool out, bool in) {
  const auto self = shared_from_this();
  if ((out && !Advance(out_)) || (in && !Advance(in_))) {
    return Reset();
  }
  if (out_.ended && in_.ended) {
    ResetOnClose(near_.stream.fd.get(), false);
    ResetOnClose(far_.stream.fd.get(), false);
    return End(true);
  }
  Watch();
}

bool Relay::Advance(Way& way) {
  way.more = false;
  if (way.ended) {
    return true;
  }
  switch (way.pump->Run()) {
    case Pump::Status::kWaiting:
      return true;
    case Pump::Status::kMore:
      way.more = true;
      return true;
    case Pump::Status::kEnded:
      way.ended = true;
      return true;
    case Pump::Status::kFailed:
      break;
  }
  // What the other side has said before it went is still to be had.
  Way& other = &way == &out_ ? in_ : out_;
  if (!other.ended) {
    (void)other.pump->Run();
  }
  return false;
}

void Relay::Watch() {
  const auto events = [](const Way& way, bool from) {
    if (way.ended) {
      return uint32_t{0};
    }
    return from ? way.pump->from_events() : way.pump->to_events();
  };
  WatchSide(near_, events(out_, true) | events(in_, false));
  WatchSide(far_, events(in_, true) | events(out_, false));
  // Bytes that TLS holds make no socket readable.
  if (far_.stream.tls != nullptr && (out_.more || in_.more) &&
      again_ == EventLoop::TimerId::kNone) {
    again_ = worker_.loop().AddTimer(std::chrono::milliseconds(0), [this] {
      again_ = EventLoop::TimerId::kNone;
      Turn(true, true);
    });
  }
}

void Relay::WatchSide(Side& side, uint32_t events) {
  if (events == side.watched) {
    return;
  }
  EventLoop& loop = worker_.loop();
  const int fd = side.stream.fd.get();
  // EPOLLHUP is reported whatever is asked for, again and again: out of the loop while nothing is.
  if (events == 0) {
    loop.Remove(fd);
    side.watched = 0;
    return;
  }
  const auto done = side.watched != 0
                        ? loop.Modify(fd, events)
                        : loop.Add(fd, events, [this, &side](uint32_t got) { Ready(side, got); });
  side.watched = done ? events : 0;
}

void Relay::End(bool in_order) {
  const auto self = shared_from_this();
  kept_.Forget();
  if (ended_) {
    std::exchange(ended_, {})(in_order);
  }
  // Whoever has closed one connection often opens the next one at once. To tell the proxy takes so
  // long that it is better done while that one waits for an answer.
  if (worker_.is_awake() && far_.stream.tls == nullptr) {
    WatchSide(far_, 0);
    worker_.loop().AddTimer(kClosesWithin,
                            [slot = std::make_shared<RelaySlot>(std::move(slot_)),
                             far = std::make_shared<UniqueFd>(std::move(far_.stream.fd))] {});
  }
  worker_.Drop(this);
}

void Relay::Reset() {
  if (kept_ || shared_) {
    AbortRelayed(near_.stream.fd.get());
    AbortRelayed(far_.stream.fd.get());
  }
  End(false);
}

}  // namespace oakum::agent
