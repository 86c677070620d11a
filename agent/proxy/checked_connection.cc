#include "agent/proxy/checked_connection.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "agent/proxy/handshake.h"
#include "agent/proxy/relay.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::seconds kAsksWithin{60};
constexpr std::chrono::seconds kReadsWithin{5};
// How a decision names a rule of the operator's that denies (policy::Decision).
constexpr std::string_view kDenyRule = "outgoing.deny ";

// As rules and names have it: lower case, without a final dot.
std::string Canonical(std::string name) {
  if (name.ends_with('.')) {
    name.pop_back();
  }
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return name;
}

// What is wrong with where the program wants to go; else empty, and `target` is that, which the
// agent may have `translated` from one of its own addresses.
std::string Judge(const HandshakeCheck& check, ContainerCarrier& container,
                  const policy::Policy& policy, ProxyTarget& target, bool& translated) {
  target = check.target();
  if (target.name.empty()) {
    const auto names = Names::IsSynthetic(target.address.ip)
                           ? container.names().Of(target.address.ip)
                           : std::vector<std::string>();
    if (names.empty()) {
      return fmt::format("the address {} where a name belongs: a name was resolved elsewhere",
                         target.address.ip.ToString());
    }
    target.name = names.front();
    translated = true;
  }
  // As if the program had looked the name up here and connected to what it was told.
  const std::vector<std::string> names = {Canonical(target.name)};
  const policy::Endpoint remote = {container.names().SyntheticV4(names.front()),
                                   target.address.port};
  const policy::Decision decision = policy.Decide(
      policy::InetRequest{policy::Operation::kConnect, policy::Transport::kTcp, remote, {}, names});
  // A default that denies is about what goes around the proxy; this does not.
  if (decision.verdict == policy::Verdict::kDeny && decision.rule.starts_with(kDenyRule)) {
    return fmt::format("{} is denied by {}", HostAndPort(target.name, target.address),
                       decision.rule);
  }
  return {};
}

}  // namespace

void HandshakeWatch::Take(std::string_view bytes) {
  if (check_.state() != HandshakeCheck::State::kReading) {
    return;
  }
  std::string unsaid;
  std::string problem;
  switch (check_.Take(bytes, unsaid)) {
    case HandshakeCheck::State::kReading:
      return;
    case HandshakeCheck::State::kRefused:
      problem = check_.problem();
      break;
    case HandshakeCheck::State::kAsked: {
      ProxyTarget target;
      bool translated = false;
      problem = Judge(check_, *container_, *policy_, target, translated);
      (void)check_.TakeEarly();
      break;
    }
  }
  if (!problem.empty()) {
    report_.Refused(problem, true);
  }
}

CheckedConnection::CheckedConnection(Worker& worker, CheckedRequest request)
    : worker_(worker), request_(std::move(request)), check_(*request_.policy->handshake()) {}

CheckedConnection::~CheckedConnection() {
  worker_.loop().RemoveTimer(timer_);
  Unwatch();
}

void CheckedConnection::Start(Worker& worker, CheckedRequest request) {
  auto connection = std::make_shared<CheckedConnection>(worker, std::move(request));
  worker.Keep(connection);
  connection->timer_ =
      worker.loop().AddTimer(kAsksWithin, [self = connection.get()] { self->Reset(); });
  connection->Watch();
}

void CheckedConnection::Watch() {
  watching_ = worker_.loop()
                  .Add(request_.near.get(), EPOLLIN, [this](uint32_t) { Readable(); })
                  .has_value();
  if (!watching_) {
    Reset();
  }
}

void CheckedConnection::Unwatch() {
  if (std::exchange(watching_, false)) {
    worker_.loop().Remove(request_.near.get());
  }
}

void CheckedConnection::Readable() {
  const auto self = shared_from_this();
  std::array<char, 4096> buffer;
  const ssize_t got = recv(request_.near.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (got <= 0) {
    return Leave();  // nothing was asked, nothing is to be said
  }
  if (phase_ == Phase::kClosing) {
    return;
  }
  std::string reply;
  const auto state = check_.Take({buffer.data(), static_cast<size_t>(got)}, reply);
  if (state == HandshakeCheck::State::kRefused) {
    request_.report.Refused(check_.problem(), false);  // before the program knows
  }
  if (!Say(reply)) {
    return Reset();
  }
  switch (state) {
    case HandshakeCheck::State::kReading:
      return;
    case HandshakeCheck::State::kAsked:
      return Asked();
    case HandshakeCheck::State::kRefused:
      return reply.empty() ? Reset() : Close();
  }
}

void CheckedConnection::Asked() {
  Unwatch();
  ProxyTarget target;
  bool translated = false;
  if (const std::string problem =
          Judge(check_, *request_.container, *request_.policy, target, translated);
      !problem.empty()) {
    return Refuse(problem);
  }
  phase_ = Phase::kDialing;
  worker_.loop().RemoveTimer(std::exchange(timer_, EventLoop::TimerId::kNone));
  request_.dial.target = std::move(target);
  request_.dial.credentials = check_.credentials();  // its own, or none
  if (!translated) {
    request_.dial.http_head = check_.http_head();
  }
  dial_ = Dial::Start(worker_.loop(), request_.container->carrier().upstreams(),
                      std::move(request_.dial),
                      [this](DialResult result) { Dialed(std::move(result)); });
}

void CheckedConnection::Dialed(DialResult result) {
  const auto self = shared_from_this();
  if (result.failure) {
    request_.report.Failed(*result.failure);
    return Say(check_.Refusal(result.failure->errno_value)) ? Close() : Reset();
  }
  if (!Say(check_.Granted(result.stream.bound))) {
    return Reset();
  }
  Relay::Start(worker_, {.slot = std::move(request_.slot),
                         .near = std::move(request_.near),
                         .far = std::move(result.stream),
                         .early = check_.TakeEarly(),
                         .tap = {},
                         .owner = std::move(request_.owner)});
  Leave();
}

void CheckedConnection::Refuse(const std::string& problem) {
  request_.report.Refused(problem, false);
  return Say(check_.Refusal(EACCES)) ? Close() : Reset();
}

bool CheckedConnection::Say(const std::string& bytes) {
  return bytes.empty() || send(request_.near.get(), bytes.data(), bytes.size(),
                               MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

void CheckedConnection::Close() {
  // close(2) with something unread would reset the connection, and the program would not see the
  // answer.
  phase_ = Phase::kClosing;
  (void)shutdown(request_.near.get(), SHUT_WR);
  worker_.loop().RemoveTimer(std::exchange(timer_, EventLoop::TimerId::kNone));
  timer_ = worker_.loop().AddTimer(kReadsWithin, [this] {
    timer_ = EventLoop::TimerId::kNone;
    Leave();
  });
  if (!watching_) {
    Watch();
  }
}

void CheckedConnection::Reset() {
  const linger reset = {1, 0};
  (void)setsockopt(request_.near.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  Leave();
}

void CheckedConnection::Leave() {
  const auto self = shared_from_this();
  Unwatch();
  worker_.Drop(this);
}

}  // namespace oakum::agent
