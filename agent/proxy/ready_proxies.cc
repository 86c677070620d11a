#include "agent/proxy/ready_proxies.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

bool Same(const std::optional<Credentials>& a, const std::optional<Credentials>& b) {
  return a.has_value() == b.has_value() &&
         (!a || (a->user == b->user && a->password == b->password));
}

// Whether the proxy has neither closed nor said anything that nobody asked for. What TLS has to say
// for itself makes it one that is not used.
bool IsQuiet(int socket_fd) {
  char byte = 0;
  return recv(socket_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
         (errno == EAGAIN || errno == EWOULDBLOCK);
}

}  // namespace

// Here, where TlsStream is known.
ReadyProxies::ReadyProxies() = default;
ReadyProxies::~ReadyProxies() = default;

bool ReadyProxies::Key::Fits(const DialRequest& request) const {
  return proxy == request.proxy && network == request.network &&
         Same(credentials, request.credentials);
}

std::optional<ProxyStream> ReadyProxies::Take(const policy::ProxyUrl& url,
                                              const std::optional<Credentials>& credentials,
                                              uint64_t network) {
  std::vector<Ready> gone;  // closed without the lock
  std::optional<ProxyStream> found;
  const std::lock_guard lock(mutex_);
  for (size_t i = ready_.size(); i-- > 0 && !found;) {
    Ready& ready = ready_[i];
    if (ready.stream.url != &url || ready.key.network != network ||
        !Same(ready.key.credentials, credentials)) {
      continue;
    }
    if (IsQuiet(ready.stream.fd.get())) {
      found = std::move(ready.stream);
    }
    gone.push_back(std::move(ready));
    ready_.erase(ready_.begin() + static_cast<ptrdiff_t>(i));
  }
  return found;
}

std::optional<DialRequest> ReadyProxies::Note(const DialRequest& request, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  auto use = std::ranges::find_if(uses_, [&](const Use& each) { return each.key.Fits(request); });
  if (use == uses_.end()) {
    uses_.push_front({.key = {.keep = request.keep,
                              .proxy = request.proxy,
                              .credentials = request.credentials,
                              .network = request.network},
                      .since = now,
                      .count = 0});
    if (uses_.size() > kMaxUses) {
      uses_.pop_back();
    }
  } else {
    uses_.splice(uses_.begin(), uses_, use);
  }
  Use& used = uses_.front();
  if (now - used.since > kBurst) {
    used.since = now;
    used.count = 0;
  }
  if (++used.count < kOften || closed_ || ready_.size() >= kMaxReady) {
    return std::nullopt;
  }
  DialRequest next;
  next.keep = request.keep;
  next.proxy = request.proxy;
  next.command = ProxyCommand::kGreet;
  next.credentials = request.credentials;
  next.make_socket = request.make_socket;
  next.network = request.network;
  next.tls_process = request.tls_process;
  return next;
}

bool ReadyProxies::Put(const DialRequest& request, ProxyStream stream, RelaySlot slot,
                       Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (closed_ || ready_.size() >= kMaxReady) {
    return false;
  }
  ready_.push_back({.key = {.keep = request.keep,
                            .proxy = request.proxy,
                            .credentials = request.credentials,
                            .network = request.network},
                    .stream = std::move(stream),
                    .slot = std::move(slot),
                    .until = now + kIdle});
  return !std::exchange(will_drop_, true);
}

bool ReadyProxies::BeginMaking() {
  const std::lock_guard lock(mutex_);
  if (closed_ || ready_.size() + making_ >= kMaxReady) {
    return false;
  }
  ++making_;
  return true;
}

void ReadyProxies::EndMaking() {
  const std::lock_guard lock(mutex_);
  --making_;
}

bool ReadyProxies::DropOld(Clock::time_point now) {
  std::vector<Ready> gone;
  const std::lock_guard lock(mutex_);
  const auto old =
      std::ranges::stable_partition(ready_, [&](const Ready& ready) { return ready.until > now; });
  std::ranges::move(old, std::back_inserter(gone));
  ready_.erase(old.begin(), old.end());
  std::erase_if(uses_, [&](const Use& use) { return now - use.since > kBurst + kIdle; });
  will_drop_ = !ready_.empty();
  return will_drop_;
}

void ReadyProxies::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  ready_.clear();
  uses_.clear();
}

}  // namespace oakum::agent
