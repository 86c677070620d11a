#include "agent/dns/resolver.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <unordered_map>
#include <utility>

#include "agent/dns/host_name.h"
#include "agent/dns/local_answers.h"
#include "agent/dns/message.h"
#include "agent/dns/tcp_client.h"
#include "agent/dns/tcp_service.h"
#include "agent/dns/tor_lookups.h"
#include "agent/dns/udp_forwarder.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

using dns::Query;
using dns::Rcode;

// Connections to servers of one container; the one used longest ago goes.
constexpr size_t kMaxClients = 64;

// Who may not share a connection to a server or a result of a look-up.
std::string IsolationKey(const policy::Proxy& proxy, const DnsContext& context) {
  switch (proxy.isolate) {
    case policy::Isolation::kNone:
    case policy::Isolation::kContainer:
    case policy::Isolation::kDestination:  // one server; a name is in the key of a look-up
      return {};
    case policy::Isolation::kProcess:
    case policy::Isolation::kConnection:  // a query is none: those of a process share
      return fmt::format("{} {}", context.tgid, context.start_time);
  }
  return {};
}

// Of a socket that is made in the container's network.
uint64_t NetworkKey(const DnsContext& context) {
  return context.proxy_socket ? context.network : 0;
}

// Whether what a server says there is what its operator says (DnsContext::network).
bool IsTrusted(const DnsContext& context, const std::vector<policy::IpAddress>& trusted) {
  const auto& resolvers = context.settings->resolvers;
  const policy::IpAddress& ip = context.server.ip;
  return context.own_network && context.server.port == policy::kDnsPort &&
         (std::ranges::find(trusted, ip) != trusted.end() ||
          std::ranges::find(resolvers, ip) != resolvers.end());
}

}  // namespace

struct Resolver::Impl {
  // One query that waits.
  struct Waiting {
    Query query;
    size_t limit = 0;
    bool bind = false;  // what comes binds the name
    Done done;
    EventLoop::TimerId timer = EventLoop::TimerId::kNone;
    uint64_t forwarded = 0;  // UdpForwarder's number
  };
  struct Client {
    std::string key;
    std::shared_ptr<dns::TcpClient> client;
  };

  explicit Impl(Options given)
      : options(std::move(given)),
        loop(*options.loop),
        trusted(TrustedServers(options.resolv_conf)),
        tcp(loop),
        forwarder(loop, options.take_slot) {}
  ~Impl() {
    for (const auto& [ticket, each] : waiting) {
      loop.RemoveTimer(each.timer);
    }
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Answer(std::string_view bytes, DnsTransport transport, const DnsContext& context, Done done);
  uint64_t Wait(Query query, size_t limit, bool bind, bool silent, Done done);
  void Finish(uint64_t ticket, std::string message,
              std::optional<ProxyFailure> failure = std::nullopt);
  void Refuse(uint64_t ticket, Rcode rcode, std::optional<ProxyFailure> failure = std::nullopt);
  void Arrived(uint64_t ticket, std::expected<std::string, ProxyFailure> answer);

  void AskTor(uint64_t ticket, const DnsContext& context);
  void AskServer(uint64_t ticket, std::string bytes, const DnsContext& context);
  void Forward(uint64_t ticket, std::string bytes, DnsTransport transport,
               const DnsContext& context);
  dns::TcpClient& ClientOf(const std::string& key, const std::string& server,
                           const dns::TcpClient::Open& open);
  DialRequest RequestOf(const DnsContext& context, ProxyCommand command, ProxyTarget target);

  const Options options;
  EventLoop& loop;
  const std::vector<policy::IpAddress> trusted;
  uint64_t last_ticket = 0;
  std::unordered_map<uint64_t, Waiting> waiting;
  dns::TcpService tcp;
  dns::UdpForwarder forwarder;
  dns::TorLookups tor;
  std::list<Client> clients;  // the one used last first
};

void Resolver::Impl::Answer(std::string_view bytes, DnsTransport transport,
                            const DnsContext& context, Done done) {
  auto query = dns::ReadQuery(bytes);
  if (!query) {
    done({});
    return;
  }
  const bool proxied = context.settings->rule == policy::DnsRule::kProxy;
  // What a server sent to a program in a datagram is not ours to cut.
  const size_t limit =
      proxied && transport == DnsTransport::kUdp ? dns::UdpLimit(*query) : dns::kMaxMessage;
  const auto reply = [&](std::string message) {
    done({.message = std::move(message), .name = query->name, .type = query->type, .failure = {}});
  };
  if (query->error != Rcode::kNoError || bytes.size() > dns::kMaxQuery) {
    reply(dns::BuildAnswer(*query, query->error == Rcode::kNoError ? Rcode::kFormErr : query->error,
                           {}, limit));
    return;
  }
  if (proxied) {
    auto local = dns::LocalAnswer(*query, context.settings->resolve, options.resolv_conf,
                                  *options.names, limit);
    if (local) {
      reply(std::move(*local));
      return;
    }
  }
  if (waiting.size() >= kMaxOutstanding) {
    reply({});
    return;
  }
  const bool bind =
      proxied ? !context.proxy_socket || context.own_network : IsTrusted(context, trusted);
  const uint64_t ticket = Wait(std::move(*query), limit, bind, !proxied, std::move(done));
  if (!proxied) {
    Forward(ticket, std::string(bytes), transport, context);
  } else if (context.settings->resolve == policy::Resolve::kTor) {
    AskTor(ticket, context);
  } else {
    AskServer(ticket, std::string(bytes), context);
  }
}

// `silent`: after kPatience nothing is answered.
uint64_t Resolver::Impl::Wait(Query query, size_t limit, bool bind, bool silent, Done done) {
  const uint64_t ticket = ++last_ticket;
  const auto timer = loop.AddTimer(options.patience, [this, ticket, silent] {
    if (silent) {
      Finish(ticket, {});
    } else {
      Refuse(ticket, Rcode::kServFail);
    }
  });
  waiting.emplace(ticket, Waiting{.query = std::move(query),
                                  .limit = limit,
                                  .bind = bind,
                                  .done = std::move(done),
                                  .timer = timer});
  return ticket;
}

void Resolver::Impl::Finish(uint64_t ticket, std::string message,
                            std::optional<ProxyFailure> failure) {
  const auto found = waiting.find(ticket);
  if (found == waiting.end()) {
    return;
  }
  const Waiting finished = std::move(found->second);
  waiting.erase(found);
  loop.RemoveTimer(finished.timer);
  forwarder.Forget(finished.forwarded);
  finished.done({.message = std::move(message),
                 .name = finished.query.name,
                 .type = finished.query.type,
                 .failure = std::move(failure)});
}

void Resolver::Impl::Refuse(uint64_t ticket, Rcode rcode, std::optional<ProxyFailure> failure) {
  const auto found = waiting.find(ticket);
  if (found != waiting.end()) {
    Finish(ticket, dns::BuildAnswer(found->second.query, rcode, {}, found->second.limit),
           std::move(failure));
  }
}

// A server's answer: what it says about the name binds it, and it is passed on as it is.
void Resolver::Impl::Arrived(uint64_t ticket, std::expected<std::string, ProxyFailure> answer) {
  const auto found = waiting.find(ticket);
  if (found == waiting.end()) {
    return;
  }
  if (!answer) {
    Refuse(ticket, Rcode::kServFail, std::move(answer.error()));
    return;
  }
  const Waiting& asked = found->second;
  if (asked.bind && !asked.query.name.empty()) {
    const auto reply = dns::ReadReply(*answer);
    if (reply && reply->rcode == Rcode::kNoError && reply->name == asked.query.name) {
      for (const policy::IpAddress& ip : reply->addresses) {
        options.names->Learn(asked.query.name, ip, std::chrono::seconds(reply->ttl));
      }
    }
  }
  Finish(ticket, dns::FitAnswer(asked.query, *answer, asked.limit));
}

DialRequest Resolver::Impl::RequestOf(const DnsContext& context, ProxyCommand command,
                                      ProxyTarget target) {
  const policy::Proxy& proxy = *context.settings->proxy;
  DialRequest request;
  request.keep = context.keep;
  request.proxy = &proxy;
  request.command = command;
  request.credentials = options.credentials(proxy, target, context.tgid, context.start_time);
  request.target = std::move(target);
  request.make_socket = context.proxy_socket;
  return request;
}

void Resolver::Impl::AskTor(uint64_t ticket, const DnsContext& context) {
  const Query& query = waiting.at(ticket).query;
  const auto reverse = query.type == dns::kTypePtr ? dns::ReverseAddress(query.name) : std::nullopt;
  const bool forward = query.type == dns::kTypeA || query.type == dns::kTypeAaaa;
  if (query.name.empty() || (query.type == dns::kTypePtr && !reverse)) {
    Refuse(ticket, Rcode::kNxDomain);
    return;
  }
  if (!forward && !reverse) {
    Refuse(ticket, Rcode::kNoError);
    return;
  }
  ProxyTarget target;
  if (reverse) {
    target.address.ip = *reverse;
  } else {
    target.name = query.name;
  }
  const policy::Proxy& proxy = *context.settings->proxy;
  const std::string key = fmt::format("{} {} {} {} {}", static_cast<const void*>(context.settings),
                                      proxy.name, IsolationKey(proxy, context), NetworkKey(context),
                                      reverse ? reverse->ToString() : query.name);
  const auto start = [&](std::function<void(DialResult)> done) {
    return options.dial(
        loop, *options.upstreams,
        RequestOf(context, reverse ? ProxyCommand::kResolvePtr : ProxyCommand::kResolve,
                  std::move(target)),
        std::move(done));
  };
  tor.Find(key, context.keep, start, [this, ticket](const dns::TorLookups::Result& result) {
    const auto found = waiting.find(ticket);
    if (found == waiting.end()) {
      return;
    }
    if (result.failure) {
      Refuse(ticket, Rcode::kServFail, result.failure);
      return;
    }
    if (!result.found) {
      Refuse(ticket, Rcode::kNxDomain);
      return;
    }
    const Waiting& asked = found->second;
    std::vector<dns::Record> records;
    const auto ttl = static_cast<uint32_t>(dns::TorLookups::kTtl.count());
    if (asked.query.type == dns::kTypePtr) {
      records.push_back(dns::PtrRecord(result.name, ttl));
    } else if (result.ip.IsV4() == (asked.query.type == dns::kTypeA)) {
      records.push_back(dns::AddressRecord(result.ip, ttl));
      if (asked.bind) {
        options.names->Learn(asked.query.name, result.ip, dns::TorLookups::kTtl);
      }
    }
    Finish(ticket, dns::BuildAnswer(asked.query, Rcode::kNoError, records, asked.limit));
  });
}

void Resolver::Impl::AskServer(uint64_t ticket, std::string bytes, const DnsContext& context) {
  const policy::DnsSettings& settings = *context.settings;
  ProxyTarget target;
  if (settings.server) {
    target.address = *settings.server;
  } else {
    target.name = settings.server_name;
    target.address.port = settings.server_port;
  }
  const std::string server =
      settings.server ? fmt::format("{} port {}", target.address.ip.ToString(), target.address.port)
                      : fmt::format("{} port {}", target.name, target.address.port);
  const std::string key = fmt::format("proxy {} {} {}", static_cast<const void*>(&settings),
                                      IsolationKey(*settings.proxy, context), NetworkKey(context));
  const auto open = [this, context, target](std::function<void(DialResult)> done) {
    return options.dial(loop, *options.upstreams,
                        RequestOf(context, ProxyCommand::kConnect, target), std::move(done));
  };
  ClientOf(key, server, open).Ask(std::move(bytes), [this, ticket](dns::TcpClient::Answer answer) {
    Arrived(ticket, std::move(answer));
  });
}

void Resolver::Impl::Forward(uint64_t ticket, std::string bytes, DnsTransport transport,
                             const DnsContext& context) {
  if (transport == DnsTransport::kUdp) {
    waiting.at(ticket).forwarded =
        forwarder.Ask(std::move(bytes), context.server, context.make_socket,
                      [this, ticket](std::expected<std::string, ProxyFailure> answer) {
                        Arrived(ticket, std::move(answer));
                      });
    return;
  }
  const std::string server =
      fmt::format("{} port {}", context.server.ip.ToString(), context.server.port);
  const auto open = [this, context](std::function<void(DialResult)> done) {
    return dns::ConnectDirectly(loop, context.server, context.make_socket, std::move(done));
  };
  ClientOf(fmt::format("direct {} {}", server, context.network), server, open)
      .Ask(std::move(bytes), [this, ticket](dns::TcpClient::Answer answer) {
        if (answer) {
          Arrived(ticket, std::move(answer));
        } else {
          Finish(ticket, {}, std::move(answer.error()));  // as if the server had closed
        }
      });
}

dns::TcpClient& Resolver::Impl::ClientOf(const std::string& key, const std::string& server,
                                         const dns::TcpClient::Open& open) {
  const auto found = std::ranges::find(clients, key, &Client::key);
  if (found != clients.end()) {
    clients.splice(clients.begin(), clients, found);
  } else {
    std::erase_if(clients, [](const Client& each) { return each.client->unused(); });
    if (clients.size() >= kMaxClients) {
      clients.pop_back();
    }
    clients.push_front({key, dns::TcpClient::Create(loop, server, open)});
  }
  return *clients.front().client;
}

Resolver::Resolver(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Resolver::~Resolver() = default;

void Resolver::Answer(std::string_view query, DnsTransport transport, const DnsContext& context,
                      Done done) {
  impl_->Answer(query, transport, context, std::move(done));
}

void Resolver::Serve(UniqueFd stream, DnsContext context,
                     std::function<void(const DnsReply&)> watch) {
  // Not of its own owner: the service goes with what it points to.
  auto handler = [impl = impl_.get(), context = std::move(context), watch = std::move(watch)](
                     std::string_view query, dns::TcpService::Done done) {
    impl->Answer(query, DnsTransport::kTcp, context,
                 [watch, done = std::move(done)](const DnsReply& reply) {
                   if (watch && (!reply.message.empty() || reply.failure)) {
                     watch(reply);
                   }
                   done(reply.message);
                 });
  };
  impl_->tcp.Serve(std::move(stream), std::move(handler));
}

}  // namespace oakum::agent
