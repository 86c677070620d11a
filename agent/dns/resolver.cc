#include "agent/dns/resolver.h"

#include <utility>

#include "agent/dns/local_answers.h"
#include "agent/dns/message.h"
#include "agent/dns/tcp_service.h"

namespace oakum::agent {

namespace {

DnsReply ReplyTo(const dns::Query& query, std::string message,
                 std::optional<ProxyFailure> failure = std::nullopt) {
  return {.message = std::move(message),
          .name = query.name,
          .type = query.type,
          .failure = std::move(failure)};
}

}  // namespace

struct Resolver::Impl {
  explicit Impl(Options given) : options(std::move(given)), tcp(*options.loop) {}

  const Options options;
  dns::TcpService tcp;
};

Resolver::Resolver(Options options) : impl_(std::make_shared<Impl>(std::move(options))) {}
Resolver::~Resolver() = default;

void Resolver::Answer(std::string_view query, DnsTransport transport, const DnsContext& context,
                      Done done) {
  const auto parsed = dns::ReadQuery(query);
  if (!parsed) {
    done({});
    return;
  }
  const size_t limit = transport == DnsTransport::kUdp ? dns::UdpLimit(*parsed) : dns::kMaxMessage;
  if (context.settings->rule == policy::DnsRule::kProxy) {
    auto local = dns::LocalAnswer(*parsed, context.settings->resolve, impl_->options.resolv_conf,
                                  *impl_->options.names, limit);
    if (local) {
      done(ReplyTo(*parsed, std::move(*local)));
      return;
    }
  }
  done(ReplyTo(*parsed, dns::BuildAnswer(*parsed, dns::Rcode::kServFail, {}, limit)));
}

void Resolver::Serve(UniqueFd stream, DnsContext context,
                     std::function<void(const DnsReply&)> watch) {
  auto handler = [this, context = std::move(context), watch = std::move(watch)](
                     std::string_view query, dns::TcpService::Done done) {
    Answer(query, DnsTransport::kTcp, context,
           [watch, done = std::move(done)](const DnsReply& reply) {
             if (watch && !reply.message.empty()) {
               watch(reply);
             }
             done(reply.message);
           });
  };
  impl_->tcp.Serve(std::move(stream), std::move(handler));
}

}  // namespace oakum::agent
