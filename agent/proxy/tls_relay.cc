#include "agent/proxy/tls_relay.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "agent/proxy/tls_process.h"
#include "agent/proxy/tls_stream.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::milliseconds kShortageRetry{10};
constexpr int kMaxTries = 500;

// unix(7): ETOOMANYREFS for as many descriptors under way as a user may have.
bool CanBeTriedAgain(int error) {
  return error == EAGAIN || error == ETOOMANYREFS || IsShortage(error);
}

}  // namespace

TlsRelay::TlsRelay(Worker& worker, KeptRelay relay)
    : worker_(worker),
      slot_(std::move(relay.slot)),
      near_(std::move(relay.near)),
      pair_(std::move(relay.far.fd)),
      owner_(std::move(relay.owner)),
      kept_(std::move(relay.kept)) {
  ResetOnClose(near_.get(), true);
}

TlsRelay::~TlsRelay() {
  worker_.nursery().Leave(*this);
  worker_.loop().RemoveTimer(again_);
  if (watching_) {
    worker_.loop().Remove(pair_.get());
  }
}

void TlsRelay::GoOn(Worker& worker, KeptRelay relay) {
  auto self = std::make_shared<TlsRelay>(worker, std::move(relay));
  worker.Keep(self);
  if (!self->kept_ &&
      (!self->owner_.container->carrier().kept_relays().KeepsAtOnce() || !self->KeepNow())) {
    worker.nursery().Enter(*self);
  }
  self->HandOver();
}

bool TlsRelay::KeepAhead(KeptRelay& relay, int near_fd, int pair_fd) {
  ResetOnClose(near_fd, true);
  return KeepRelayAs(relay.kept, relay.owner, near_fd, [&] {
           return std::optional(KeptEnds{near_fd, pair_fd, -1, -1});
         }) == KeptRelays::Result::kKept;
}

bool TlsRelay::IsOne(const KeptRelay& relay) {
  int domain = AF_UNSPEC;
  socklen_t size = sizeof domain;
  return relay.near && relay.far.fd && !relay.in_pipe.in &&
         getsockopt(relay.far.fd.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
         domain == AF_UNIX;
}

bool TlsRelay::KeepNow() {
  return KeepRelayAs(kept_, owner_, near_.get(), [this] {
           return std::optional(KeptEnds{near_.get(), pair_.get(), -1, -1});
         }) != KeptRelays::Result::kLater;
}

void TlsRelay::HandOver() {
  again_ = EventLoop::TimerId::kNone;
  const auto handed = HandOverToTls(pair_.get(), near_.get());
  if (!handed && CanBeTriedAgain(handed.error().code) && ++tries_ < kMaxTries) {
    again_ = worker_.loop().AddTimer(kShortageRetry, [this] { HandOver(); });
    return;
  }
  // One that has ended says so in what is still to be heard.
  if (!handed && handed.error().code != EPIPE && handed.error().code != ECONNRESET) {
    return End(false);
  }
  watching_ =
      worker_.loop()
          .Add(pair_.get(), uint32_t{EPOLLIN} | uint32_t{EPOLLRDHUP}, [this](uint32_t) { Hear(); })
          .has_value();
  if (!watching_) {
    End(false);
  }
}

void TlsRelay::Hear() {
  TlsWord word{};
  const ssize_t got = recv(pair_.get(), &word, sizeof word, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  End(got == 1 && word == TlsWord::kEnded);
}

void TlsRelay::End(bool in_order) {
  const auto self = shared_from_this();
  if (!in_order) {
    AbortRelayed(near_.get());
  }
  kept_.Forget();
  worker_.Drop(this);
}

}  // namespace oakum::agent
