#include "agent/udp/association.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "agent/caller/sockaddr.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

constexpr size_t kMaxDatagram = 65536;

}  // namespace

std::unique_ptr<Association> Association::Start(Options options) {
  std::unique_ptr<Association> association(new Association(std::move(options)));
  Options& own = association->options_;
  association->dial_ = Dial::Start(
      *own.loop, *own.upstreams, std::move(own.request),
      [self = association.get()](DialResult result) { self->Connected(std::move(result)); });
  return association;
}

Association::~Association() {
  for (const UniqueFd* fd : {&control_, &relay_}) {
    if (fd->valid()) {
      options_.loop->Remove(fd->get());
    }
  }
}

void Association::Send(const ProxyTarget& destination, std::string_view data) {
  last_used_ = Clock::now();
  std::string wrapped = WrapDatagram(destination, data);
  if (relay_) {
    (void)send(relay_.get(), wrapped.data(), wrapped.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  if (waiting_.size() < kMaxWaiting && waiting_bytes_ + wrapped.size() <= kMaxWaitingBytes) {
    waiting_bytes_ += wrapped.size();
    waiting_.push_back(std::move(wrapped));
  }
}

void Association::Connected(DialResult result) {
  if (result.failure) {
    End(std::move(result.failure));
    return;
  }
  if (result.stream.tls != nullptr) {
    // The datagrams themselves would go to the proxy for everybody to read.
    End(ProxyFailure{EACCES, "a proxy that is reached by TLS carries no datagrams", false});
    return;
  }
  const policy::Endpoint& bound = result.stream.bound;
  const int domain = bound.ip.IsV4() ? AF_INET : AF_INET6;
  const SockaddrCopy address = WriteEndpoint(bound, domain);
  relay_ = options_.make_socket(domain);
  if (!relay_ || connect(relay_.get(), address.get(), address.length) != 0) {
    const int error = errno;
    relay_.Reset();
    End(ProxyFailure{error, "cannot reach the address that the proxy gave for datagrams", false});
    return;
  }
  control_ = std::move(result.stream.fd);
  const auto watched_relay =
      options_.loop->Add(relay_.get(), EPOLLIN, [this](uint32_t) { Receive(); });
  const auto watched_control = options_.loop->Add(control_.get(), EPOLLIN | EPOLLRDHUP,
                                                  [this](uint32_t) { ControlReady(); });
  if (!watched_relay || !watched_control) {
    End(ProxyFailure{ENOMEM, "no memory for an association", false});
    return;
  }
  for (const std::string& wrapped : waiting_) {
    (void)send(relay_.get(), wrapped.data(), wrapped.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  waiting_.clear();
}

void Association::ControlReady() {
  // Nothing is said on this connection any more; its end is that of the association.
  std::array<char, 256> ignored;
  const ssize_t got = recv(control_.get(), ignored.data(), ignored.size(), MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
    End(std::nullopt);
  }
}

void Association::Receive() {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kMaxDatagram);
  for (int turn = 0; turn < kMaxPerTurn; ++turn) {
    const ssize_t got = recv(relay_.get(), buffer.get(), kMaxDatagram, MSG_DONTWAIT);
    if (got < 0) {
      return;  // an ICMP error of an earlier one, or nothing more
    }
    last_used_ = Clock::now();
    if (const auto datagram = UnwrapDatagram({buffer.get(), static_cast<size_t>(got)}); datagram) {
      options_.deliver(*datagram);
    }
  }
}

void Association::End(std::optional<ProxyFailure> failure) {
  const auto ended = std::move(options_.ended);
  ended(std::move(failure));  // which may destroy this
}

}  // namespace oakum::agent
