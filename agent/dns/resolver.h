// Answers the DNS queries of one container.
#ifndef OAKUM_AGENT_DNS_RESOLVER_H_
#define OAKUM_AGENT_DNS_RESOLVER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/dns/names.h"
#include "agent/dns/resolv_conf.h"
#include "agent/proxy/dial.h"
#include "agent/proxy/relay_slots.h"
#include "agent/proxy/upstreams.h"
#include "agent/server/event_loop.h"
#include "base/unique_fd.h"
#include "policy/address.h"
#include "policy/proxy.h"

namespace oakum::agent {

enum class DnsTransport : uint8_t { kUdp, kTcp };

// What comes with a query.
struct DnsContext {
  std::shared_ptr<const void> keep;  // keeps `settings` alive: the policy
  const policy::DnsSettings* settings = nullptr;
  policy::Endpoint server;  // whom the program asked
  // Who asks, for "isolate": proc_pid_stat(5), fields 1 (of the thread group) and 22.
  pid_t tgid = 0;
  uint64_t start_time = 0;
  // The network namespace of the socket that asks (SO_NETNS_COOKIE), and whether it is the one that
  // the container was started in. A container can make others of its own (unshare(2)) in which it
  // is every server: what it is told there binds no name to an address.
  uint64_t network = 0;
  bool own_network = false;
  // kAllow: makes a non-blocking socket of `domain` (AF_INET or AF_INET6) and `type` (SOCK_DGRAM or
  // SOCK_STREAM) in that network namespace; an invalid descriptor with errno is a failure.
  std::function<UniqueFd(int domain, int type)> make_socket;
  // kProxy: DialRequest::make_socket; empty for the agent's network namespace.
  std::function<UniqueFd(int domain)> proxy_socket;
};

// One answer. What a caller logs: `name` and `type` of the question, `failure`.
struct DnsReply {
  std::string message;  // empty: no answer; the program asks again, as it would
  std::string name;     // lower case, without a final dot; empty where it is no host name
  uint16_t type = 0;
  // What went wrong with the proxy or the server; `message` then says SERVFAIL, or nothing.
  std::optional<ProxyFailure> failure;
};

// Everything happens on the thread of `loop`. Bounded in outstanding queries (kMaxOutstanding,
// those beyond are not answered), in memory and in time, however slow the proxy or the server is.
class Resolver {
 public:
  using Done = std::function<void(DnsReply)>;
  using DialFunction = std::function<std::unique_ptr<Dial>(EventLoop&, Upstreams&, DialRequest,
                                                           std::function<void(DialResult)>)>;
  // Isolator::For
  using CredentialsFunction = std::function<std::optional<Credentials>(
      const policy::Proxy&, const ProxyTarget&, pid_t tgid, uint64_t start_time)>;

  static constexpr size_t kMaxOutstanding = 1024;
  // How long an answer may take. After it: SERVFAIL from a proxy, silence from a server that was
  // asked directly.
  static constexpr std::chrono::seconds kPatience{5};

  // What the pointers point to outlives the resolver.
  struct Options {
    EventLoop* loop = nullptr;
    Upstreams* upstreams = nullptr;
    Names* names = nullptr;  // thread-safe: others read it
    DialFunction dial;       // Dial::Start
    CredentialsFunction credentials;
    // For each query that is passed on in a datagram; without, only their number is bounded.
    std::function<std::optional<RelaySlot>()> take_slot;
    ResolvConf resolv_conf;  // of the container at its start
    EventLoop::Clock::duration patience = kPatience;
  };

  explicit Resolver(Options options);
  // Queries that are still outstanding are not answered. Not from inside `done` or `watch`.
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Answers one message as context.settings say: kProxy by the agent in the way of `resolve`, every
  // other rule by the server that was asked. `done` is called once, perhaps before Answer returns;
  // with an empty message for what no server answers (no DNS at all). For kUdp the message fits
  // into what the query says that the program takes.
  void Answer(std::string_view query, DnsTransport transport, const DnsContext& context, Done done);

  // Serves DNS over TCP (RFC 1035 section 4.2.2, RFC 7766) on a connected stream socket until its
  // end: queries in any number at a time, answers in the order in which they come. What is no DNS
  // closes it. `watch` is told each answer.
  void Serve(UniqueFd stream, DnsContext context, std::function<void(const DnsReply&)> watch = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_DNS_RESOLVER_H_
