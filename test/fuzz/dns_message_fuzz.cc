// DNS messages of containers and of servers, and resolv.conf(5). The first byte says which.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/dns/host_name.h"
#include "agent/dns/local_answers.h"
#include "agent/dns/message.h"
#include "agent/dns/names.h"
#include "agent/dns/resolv_conf.h"
#include "agent/dns/tcp_client.h"

namespace {

namespace dns = oakum::agent::dns;
using oakum::agent::Names;
using oakum::agent::ResolvConf;
using oakum::policy::Resolve;

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

// An answer that we have made ourselves.
void CheckAnswer(const dns::Query& query, const std::string& answer, size_t limit) {
  Demand(answer.size() <= limit);
  Demand(dns::ReadId(answer) == query.id);
  if (query.question.empty()) {
    Demand(answer.size() == dns::kHeaderSize);
    return;
  }
  const auto reply = dns::ReadReply(answer);
  Demand(reply && reply->question == query.question && reply->name == query.name);
  Demand(!dns::ReadQuery(answer));
}

void Query(std::string_view bytes) {
  const auto query = dns::ReadQuery(bytes);
  if (!query) {
    return;
  }
  Demand(query->question.size() <= bytes.size() && bytes.contains(query->question));
  Demand(query->name.empty() || dns::IsHostName(query->name));
  Demand(query->name.empty() || dns::WireName(query->name) == query->wire_name);
  const size_t limit = dns::UdpLimit(*query);
  Demand(limit >= dns::kMaxPlainUdp && limit <= dns::kMaxUdp);
  Names names;
  ResolvConf conf = oakum::agent::ParseResolvConf("search svc.local local\noptions ndots:5");
  for (const Resolve way : {Resolve::kSynthetic, Resolve::kTor, Resolve::kServer}) {
    const auto answer = dns::LocalAnswer(*query, way, conf, names, limit);
    Demand(answer || (way != Resolve::kSynthetic && query->error == dns::Rcode::kNoError));
    if (!answer) {
      continue;
    }
    CheckAnswer(*query, *answer, limit);
    const auto reply = dns::ReadReply(*answer);
    for (const auto& ip : reply ? reply->addresses : decltype(reply->addresses)()) {
      Demand(Names::IsSynthetic(ip) ? names.Of(ip).at(0) == query->name
                                    : query->name.contains("localhost"));
    }
  }
  const std::string whole(1000, '\x80');
  CheckAnswer(*query, dns::FitAnswer(*query, whole, dns::kMaxPlainUdp), dns::kMaxPlainUdp);
}

void Reply(std::string_view bytes) {
  const auto reply = dns::ReadReply(bytes);
  if (!reply) {
    return;
  }
  Demand(bytes.contains(reply->question));
  Demand(reply->name.empty() || dns::IsHostName(reply->name));
  Demand(reply->addresses.size() <= bytes.size() / 10);
  Demand(reply->ttl <= INT32_MAX);
  // It answers the query that its own head is, and no other.
  std::string query(bytes.substr(0, dns::kHeaderSize));
  query[2] = query[3] = '\0';
  std::fill(query.begin() + 6, query.end(), '\0');
  query += reply->question;
  Demand(dns::Answers(bytes, query));
  query.back() = static_cast<char>(query.back() ^ 1);
  Demand(!dns::Answers(bytes, query));
}

void Text(std::string_view bytes) {
  const ResolvConf conf = oakum::agent::ParseResolvConf(bytes);
  Demand(!conf.nameservers.empty() && conf.nameservers.size() <= oakum::agent::kMaxNameservers);
  Demand(conf.search.size() <= oakum::agent::kMaxSearch);
  Demand(std::ranges::all_of(conf.search, dns::IsHostName));
  Demand(conf.ndots >= 0 && conf.ndots <= 15);
  (void)oakum::agent::TrustedServers(conf);
  if (const auto ip = dns::ReverseAddress(bytes)) {
    // Hexadecimal digits may come in either case; everything else is said in one way.
    Demand(dns::ReverseAddress(dns::ReverseName(*ip)) == ip);
  }
  if (const auto wire = dns::WireName(bytes)) {
    Demand(wire->size() <= dns::kMaxWireName);
    const auto name = dns::HostName(*wire);
    Demand(!name || *name == bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      Query(bytes);
      break;
    case 1:
      Reply(bytes);
      break;
    default:
      Text(bytes);
      break;
  }
  return 0;
}
