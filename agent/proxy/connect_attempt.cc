#include "agent/proxy/connect_attempt.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/caller/netns.h"
#include "agent/proxy/carried_operation.h"
#include "agent/proxy/route.h"

namespace oakum::agent {

namespace {

// The address that `socket_fd` has, as the held socket's family writes it.
SockaddrCopy OwnAddress(int socket_fd, int domain) {
  SockaddrCopy address;
  address.length = sizeof address.storage;
  if (getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return {};
  }
  if (domain == AF_INET && address.storage.ss_family == AF_INET6) {
    const policy::Endpoint own = ReadEndpoint(address);
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(own.port);
    memcpy(&in.sin_addr, own.ip.bytes().data() + 12, sizeof in.sin_addr);
    memcpy(&address.storage, &in, sizeof in);
    address.length = sizeof in;
  }
  return address;
}

}  // namespace

ConnectAttempt::ConnectAttempt(const CallContext& context, const GuardedCall& call,
                               CarriedConnect connect)
    : context_(context),
      call_(call),
      connect_(std::move(connect)),
      carried_(context.carried()),
      cookie_(connect_.socket.cookie),
      netns_(NetworkCookie(connect_.socket.fd.get())),
      blocking_(!IsNonBlocking(connect_.socket.fd.get())) {}

ProxyReport ConnectAttempt::Report() const {
  return {context_.core, call_,
          policy::InetRequest{policy::Operation::kConnect,
                              policy::Transport::kTcp,
                              connect_.destination.endpoint,
                              {},
                              connect_.judged.names},
          connect_.judged.decision};
}

bool ConnectAttempt::IsNameless() const {
  return Names::IsSynthetic(connect_.destination.endpoint.ip) && connect_.judged.names.empty();
}

bool ConnectAttempt::IsInOwnNetwork() const {
  return netns_ != 0 && netns_ == carrier().own_netns();
}

ProxyTarget ConnectAttempt::Target() const {
  ProxyTarget target;
  target.address = connect_.destination.endpoint;
  // A proxy that resolves names is given the one that the program looked up. Where there are
  // several it is not known which: then it is given the address.
  const bool resolves = std::ranges::all_of(proxy().urls, [](const policy::ProxyUrl& url) {
    return url.scheme != policy::ProxyScheme::kSocks5;
  });
  const bool synthetic = Names::IsSynthetic(target.address.ip);
  if (!connect_.judged.names.empty() &&
      (synthetic || (resolves && connect_.judged.names.size() == 1))) {
    target.name = connect_.judged.names.front();
  }
  return target;
}

void ConnectAttempt::ReadCaller() { tgid_ = context_.descriptors.GroupOf(call_.notification.tid); }

std::optional<Credentials> ConnectAttempt::Isolate() {
  uint64_t start_time = 0;
  if (proxy().isolate == policy::Isolation::kProcess) {
    ReadCaller();
    start_time = ReadStartTime(tgid_);
  }
  return carried_->isolator().For(proxy(), Target(), tgid_, start_time);
}

std::optional<Outcome> ConnectAttempt::GetReady(std::shared_ptr<UniqueFd>& shared_net,
                                                Worker*& worker) {
  if (auto slot = carried_->TakeSlot(); slot) {
    slot_ = std::move(*slot);
  } else {
    Report().Failed({ENOBUFS, "the container has too many connections at a time", false});
    return Outcome::Of(Answer::Error(ENOBUFS));
  }
  ReadCaller();
  auto net = WhileShort([&] {
    return IsInOwnNetwork() ? Expected<UniqueFd>()
                            : NetworkOf(connect_.socket.fd.get(), carrier().own_netns());
  });
  if (!net) {
    return Unreachable(net.error());
  }
  shared_net = std::make_shared<UniqueFd>(std::move(*net));
  worker = carrier().NextWorker();
  if (worker == nullptr) {
    return Outcome::Of(Answer::Error(ENOBUFS));
  }
  return std::nullopt;
}

void ConnectAttempt::Start(HeldConnection::Starter& starter,
                           std::shared_ptr<PendingConnect> pending, HeldSocket held,
                           KeptConnection kept) {
  const HeldClient client{.tgid = tgid_,
                          .number = connect_.number,
                          .cookie = cookie_,
                          .waits = blocking_,
                          .address = OwnAddress(connect_.socket.fd.get(), held.domain())};
  starter.Hold({.pending = std::move(pending),
                .held = std::move(held),
                .client = client,
                .report = Report(),
                .kept = std::move(kept)});
}

HeldRequest ConnectAttempt::Request(const std::shared_ptr<UniqueFd>& net) {
  HeldRequest request{.container = carried_,
                      .policy = connect_.judged.policy,
                      .slot = std::move(slot_),
                      .carry = carry(),
                      .dial = {},
                      .dns = {},
                      .make_far = {},
                      .asked = connect_.destination.endpoint};
  FillIn(request, net);
  return request;
}

void ConnectAttempt::FillIn(HeldRequest& request, const std::shared_ptr<UniqueFd>& net) {
  const auto make_socket = [net](int domain, int type) {
    UniqueFd socket;
    int error = 0;
    const auto entered = WithNetwork(net->get(), [&] {
      socket.Reset(::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      error = errno;
    });
    errno = entered ? error : entered.error().code;
    return socket;
  };
  std::function<UniqueFd(int)> proxy_socket;
  if (connect_.judged.decision.proxy != nullptr && FromContainer(net->get())) {
    proxy_socket = [make_socket](int domain) { return make_socket(domain, SOCK_STREAM); };
  }
  if (carry() == policy::Carry::kResolver) {
    request.dns.keep = connect_.judged.policy;
    request.dns.settings = &connect_.judged.policy->dns();
    request.dns.server = connect_.destination.endpoint;
    request.dns.tgid = tgid_;
    request.dns.start_time = ReadStartTime(tgid_);
    request.dns.network = netns_;
    request.dns.own_network = carried_->IsFirstNetwork(net->get());
    request.dns.make_socket = make_socket;
    request.dns.proxy_socket = std::move(proxy_socket);
    return;
  }
  request.dial.keep = connect_.judged.policy;
  request.dial.proxy = connect_.judged.decision.proxy;
  if (carry() == policy::Carry::kProxy) {
    request.dial.target = Target();
    request.dial.credentials = credentials_;
    request.dial.ready = &carried_->ready();
    request.dial.network = proxy_socket ? netns_ : 0;
  }
  request.dial.make_socket = std::move(proxy_socket);
  if (carry() == policy::Carry::kChecked && context_.Audits()) {
    request.make_far = [make_socket](int domain) { return make_socket(domain, SOCK_STREAM); };
  }
}

bool ConnectAttempt::FromContainer(int net_fd) const {
  if (net_fd < 0) {
    return false;  // they are one
  }
  switch (proxy().from) {
    case policy::ProxyFrom::kContainer:
      return true;
    case policy::ProxyFrom::kHost:
      return false;
    case policy::ProxyFrom::kAuto:
      break;
  }
  // In a network of its own a container may pose as the proxy: what is secret is only spoken from
  // the agent's.
  return has_route_ && CanConnectDirectly(proxy(), false) && HasRoute(net_fd);
}

bool ConnectAttempt::HasRoute(int net_fd) const {
  return RouteOnceThereIsRoom(*proxy().urls.front().endpoint, net_fd) != Route::kNone;
}

Outcome ConnectAttempt::Unreachable(const Error& error) const {
  // Without ::1 an IPv6 socket has no way; the rest is the agent's own limits and privileges.
  const int told = error.code == EADDRNOTAVAIL ? ENETUNREACH
                   : IsShortage(error.code)    ? ENOBUFS
                                               : EACCES;
  Report().Failed({told, "cannot be carried: " + error.ToString(), false});
  return Outcome::Of(Answer::Error(told));
}

}  // namespace oakum::agent
