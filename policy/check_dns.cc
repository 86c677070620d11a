#include "policy/check_dns.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "base/error.h"
#include "policy/proxy_url.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

using syntax::Text;

constexpr std::array<std::string_view, 3> kResolveWords = {"synthetic", "tor", "tcp://HOST:PORT"};

void CheckServer(const Text& text, std::string_view address, DnsSettings& dns,
                 CheckContext& context) {
  ProxyUrl target;
  if (auto parsed = ParseHostPort(address, target); !parsed) {
    context.Say(text.at, parsed.error());
    return;
  }
  dns.resolve = Resolve::kServer;
  dns.server = target.endpoint;
  dns.server_name = target.host;
  dns.server_port = target.port;
}

void CheckResolve(const Text& text, DnsSettings& dns, CheckContext& context) {
  static constexpr std::string_view kTcp = "tcp://";
  if (dns.rule != DnsRule::kProxy) {
    context.Say(text.at,
                "\"resolve\" says how \"dns\": \"proxy\" answers; add that, or leave "
                "\"resolve\" out");
    return;
  }
  if (text.value.starts_with(kTcp)) {
    CheckServer(text, text.value.substr(kTcp.size()), dns, context);
  } else if (text.value == kResolveWords[1]) {
    dns.resolve = Resolve::kTor;
    if (dns.proxy != nullptr &&
        std::any_of(dns.proxy->urls.begin(), dns.proxy->urls.end(),
                    [](const ProxyUrl& url) { return url.speaks_http(); })) {
      context.Say(text.at, fmt::format("\"resolve\" \"tor\" is an extension of SOCKS5, and the "
                                       "proxy \"{}\" has a URL with \"http\"",
                                       Escape(dns.proxy->name)));
    }
  } else if (text.value != kResolveWords[0]) {
    context.Say(text.at, fmt::format("\"{}\" is no value of \"resolve\"{}", Escape(text.value),
                                     DidYouMean(text.value, kResolveWords)));
  }
}

void CheckResolvers(const syntax::Policy& policy, DnsSettings& dns, CheckContext& context) {
  if (dns.rule != DnsRule::kAllow) {
    context.Say(*policy.resolvers_at,
                "\"resolvers\" are whose answers \"dns\": \"allow\" watches; "
                "add that, or leave \"resolvers\" out");
    return;
  }
  if (policy.resolvers.size() > kMaxResolvers) {
    context.Say(*policy.resolvers_at, fmt::format("more than {} resolvers", kMaxResolvers));
    return;
  }
  for (const Text& text : policy.resolvers) {
    std::string_view word = text.value;
    if (word.starts_with('[') && word.ends_with(']')) {
      word = word.substr(1, word.size() - 2);
    }
    if (const auto address = IpAddress::Parse(word)) {
      dns.resolvers.push_back(*address);
    } else {
      context.Say(text.at, fmt::format("\"{}\" is not the address of a name server, as in "
                                       "\"10.0.0.53\" or \"[fd00::53]\"",
                                       Escape(text.value)));
    }
  }
}

}  // namespace

DnsSettings CheckDns(const syntax::Policy& policy, Verdict otherwise, const Proxy* proxy,
                     CheckContext& context) {
  static constexpr std::array kMeanings = {DnsRule::kAllow, DnsRule::kDeny, DnsRule::kProxy};
  static_assert(kMeanings.size() == kDnsWords.size());
  DnsSettings dns;
  if (const auto word = context.Choose(policy.dns, "dns", kDnsWords)) {
    dns.rule = kMeanings[*word];
  } else {
    switch (otherwise) {
      case Verdict::kAllow:
        dns.rule = DnsRule::kFollow;
        break;
      case Verdict::kDeny:
        dns.rule = DnsRule::kDeny;
        break;
      case Verdict::kRedirect:
        dns.rule = DnsRule::kProxy;
        break;
    }
  }
  if (dns.rule == DnsRule::kProxy) {
    dns.proxy = proxy;
    if (policy.dns && !policy.proxy) {
      context.Say(policy.dns->at, "dns \"proxy\" needs a \"proxy\" in the same policy");
    }
  }
  if (policy.resolve) {
    CheckResolve(*policy.resolve, dns, context);
  }
  if (policy.resolvers_at) {
    CheckResolvers(policy, dns, context);
  }
  return dns;
}

}  // namespace oakum::policy
