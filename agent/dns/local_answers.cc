#include "agent/dns/local_answers.h"

#include <algorithm>
#include <array>
#include <span>

#include "agent/dns/host_name.h"

namespace oakum::agent::dns {

namespace {

using policy::IpAddress;
using policy::Resolve;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string Synthetic(const Query& query, Names& names, size_t limit) {
  if (query.type == kTypeA || query.type == kTypeAaaa) {
    const Record record = AddressRecord(
        query.type == kTypeA ? names.SyntheticV4(query.name) : names.SyntheticV6(query.name),
        kSyntheticTtl);
    return BuildAnswer(query, Rcode::kNoError, std::span(&record, 1), limit);
  }
  return BuildAnswer(query, Rcode::kNoError, {}, limit);
}

std::string Localhost(const Query& query, size_t limit) {
  if (query.type == kTypeA || query.type == kTypeAaaa) {
    const Record record = AddressRecord(
        query.type == kTypeA ? IpAddress::FromV4({127, 0, 0, 1}) : *IpAddress::Parse("::1"),
        kSyntheticTtl);
    return BuildAnswer(query, Rcode::kNoError, std::span(&record, 1), limit);
  }
  return BuildAnswer(query, Rcode::kNoError, {}, limit);
}

}  // namespace

bool IsWithin(std::string_view name, std::string_view domain) {
  return name.ends_with(domain) &&
         (name.size() == domain.size() || name[name.size() - domain.size() - 1] == '.');
}

bool LooksLikeAddress(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  return !last.empty() &&
         (std::ranges::all_of(last, IsDigit) ||
          (last.starts_with("0x") &&
           last.find_first_not_of("0123456789abcdef", 2) == std::string_view::npos));
}

bool IsSearched(std::string_view name, const ResolvConf& conf) {
  return std::ranges::any_of(conf.search, [&](std::string_view domain) {
    if (!IsWithin(name, domain) || name.size() == domain.size()) {
      return false;
    }
    const auto dots = std::ranges::count(name.substr(0, name.size() - domain.size() - 1), '.');
    return dots > 0 && dots < conf.ndots;
  });
}

std::optional<std::string> LocalAnswer(const Query& query, Resolve resolve, const ResolvConf& conf,
                                       Names& names, size_t limit) {
  const auto refuse = [&](Rcode rcode) { return BuildAnswer(query, rcode, {}, limit); };
  if (query.error != Rcode::kNoError) {
    return refuse(query.error);
  }
  if (query.query_class != kClassIn || query.type == kTypeAxfr || query.type == kTypeIxfr) {
    return refuse(Rcode::kRefused);
  }
  const std::string_view name = query.name;
  if (query.type == kTypePtr) {
    const auto ip = ReverseAddress(name);
    if (ip && Names::IsSynthetic(*ip)) {
      const auto of = names.Of(*ip);
      if (of.empty()) {
        return refuse(Rcode::kNxDomain);
      }
      const Record record = PtrRecord(of.front(), kSyntheticTtl);
      return BuildAnswer(query, Rcode::kNoError, std::span(&record, 1), limit);
    }
  }
  if (IsWithin(name, "localhost") || name == "localhost.localdomain") {
    return Localhost(query, limit);
  }
  if (IsWithin(name, "invalid") || IsWithin(name, "use-application-dns.net") ||
      LooksLikeAddress(name)) {
    return refuse(Rcode::kNxDomain);
  }
  if (query.wire_name.size() == 1 && resolve != Resolve::kServer) {
    return refuse(Rcode::kNoError);  // the root is there, and has no address
  }
  const bool onion = IsWithin(name, "onion") && name != "onion";
  switch (resolve) {
    case Resolve::kSynthetic:
      if (name.empty() || IsWithin(name, "in-addr.arpa") || IsWithin(name, "ip6.arpa") ||
          IsSearched(name, conf)) {
        return refuse(Rcode::kNxDomain);
      }
      return Synthetic(query, names, limit);
    case Resolve::kTor:
      return onion ? std::optional(Synthetic(query, names, limit)) : std::nullopt;
    case Resolve::kServer:
      return onion ? std::optional(refuse(Rcode::kNxDomain)) : std::nullopt;
  }
  return refuse(Rcode::kServFail);
}

}  // namespace oakum::agent::dns
