#include "agent/proxy/relay.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <chrono>
#include <utility>

#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::microseconds kClosesWithin{50};

// RFC 9293 section 3.10.4, ABORT: close(2) after this sends RST.
void ResetOnClose(int socket_fd) {
  const linger reset = {1, 0};
  (void)setsockopt(socket_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

}  // namespace

Relay::Relay(Worker& worker, RelaySlot slot, UniqueFd near, ProxyStream far, std::string early,
             Pump::Tap tap)
    : worker_(worker), slot_(std::move(slot)) {
  near_.stream.fd = std::move(near);
  far_.stream = std::move(far);
  out_.pump =
      Pump::Create(near_.stream, far_.stream, worker_.pipes(), std::move(early), std::move(tap));
  in_.pump = Pump::Create(far_.stream, near_.stream, worker_.pipes(), {}, {});
}

Relay::~Relay() {
  worker_.loop().RemoveTimer(again_);
  worker_.loop().Forget(near_.stream.fd.get());
  worker_.loop().Forget(far_.stream.fd.get());
}

void Relay::Start(Worker& worker, RelaySlot slot, UniqueFd near, ProxyStream far, std::string early,
                  Pump::Tap tap) {
  // Such bytes show in no event.
  const bool has_some = !early.empty() || far.tls != nullptr;
  auto relay = std::make_shared<Relay>(worker, std::move(slot), std::move(near), std::move(far),
                                       std::move(early), std::move(tap));
  worker.Keep(relay);
  if (has_some) {
    relay->Turn(true, true);
  } else {
    relay->Watch();
  }
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
    return End();
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

void Relay::End() {
  const auto self = shared_from_this();
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
  ResetOnClose(near_.stream.fd.get());
  ResetOnClose(far_.stream.fd.get());
  End();
}

}  // namespace oakum::agent
