#include "policy/check_proxy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

#include "base/error.h"

namespace oakum::policy {

namespace {

using syntax::Text;

constexpr size_t kMaxServerName = 253;  // RFC 1035 section 2.3.4, in presentation form

void CheckIsolation(const syntax::Proxy& proxy, Proxy& checked, CheckContext& context) {
  static constexpr std::array kMeanings = {Isolation::kNone, Isolation::kContainer,
                                           Isolation::kProcess, Isolation::kDestination,
                                           Isolation::kConnection};
  static_assert(kMeanings.size() == kIsolations.size());
  if (const auto word = context.Choose(proxy.isolate, "isolate", kIsolations)) {
    checked.isolate = kMeanings[*word];
  }
  if (context.Choose(proxy.credentials, "credentials", kCredentialFormats) == 1U) {
    checked.format = CredentialFormat::kTor;
  }
  if (checked.isolate == Isolation::kNone) {
    if (proxy.credentials) {
      context.Say(proxy.credentials->at,
                  "\"credentials\" says how isolating credentials look; it needs \"isolate\"");
    }
    return;
  }
  for (size_t i = 0; i < checked.urls.size(); ++i) {
    if (!checked.urls[i].user.empty()) {
      context.Say(proxy.isolate->at,
                  fmt::format("\"isolate\" makes user and password up, and \"{}\" is written with "
                              "its own; leave one of the two out",
                              Escape(checked.urls[i].ToString())));
    }
  }
}

void CheckTls(const syntax::Proxy& proxy, Proxy& checked, CheckContext& context) {
  const bool tls = std::any_of(checked.urls.begin(), checked.urls.end(),
                               [](const ProxyUrl& url) { return url.tls; });
  for (const auto& [text, key] :
       {std::pair(&proxy.ca, "ca"), {&proxy.server_name, "server_name"}}) {
    if (*text && !tls && !checked.urls.empty()) {
      context.Say((*text)->at, fmt::format("\"{}\" is about TLS; write a URL with \"https\" or "
                                           "\"socks5h+tls\"",
                                           key));
    }
  }
  if (proxy.ca) {
    if (!proxy.ca->value.starts_with('/')) {
      context.Say(proxy.ca->at, fmt::format("\"{}\" is not the absolute path of a PEM file",
                                            Escape(proxy.ca->value)));
    }
    checked.ca_file = proxy.ca->value;
  }
  if (proxy.server_name) {
    if (proxy.server_name->value.empty() || proxy.server_name->value.size() > kMaxServerName) {
      context.Say(proxy.server_name->at,
                  fmt::format("\"server_name\" has 1 to {} bytes", kMaxServerName));
    }
    checked.server_name = proxy.server_name->value;
  }
}

void CheckTimeout(const Text& text, Proxy& checked, CheckContext& context) {
  uint32_t seconds = 0;
  const char* const last = text.value.data() + text.value.size();
  const auto [end, error] = std::from_chars(text.value.data(), last, seconds);
  if (error != std::errc() || end != last || seconds == 0 || seconds > kMaxProxyTimeout) {
    context.Say(text.at,
                fmt::format("\"timeout\" is a whole number of seconds, 1 to {}", kMaxProxyTimeout));
    return;
  }
  checked.timeout = std::chrono::seconds(seconds);
}

void CheckRegex(const Text& text, HandshakeRules& rules, CheckContext& context) {
  constexpr size_t kMax = PasswordPattern::kMaxText;
  if (text.value.size() > kMax) {
    context.Say(text.at, fmt::format("a regular expression of more than {} bytes", kMax));
    return;
  }
  rules.isolation = PasswordPattern::Parse(text.value);
  if (!rules.isolation) {
    context.Say(text.at, fmt::format("\"{}\" is not a regular expression (ECMAScript without "
                                     "back-references and look-ahead, of a bounded size)",
                                     Escape(text.value)));
  }
}

// Programs speak to the proxy through its addresses in the policy: there has to be one, in clear
// text, of the protocol that is required.
void CheckCanBeSeen(Location at, const Proxy& proxy, HandshakeRules::Protocol require,
                    CheckContext& context) {
  const bool http = require == HandshakeRules::Protocol::kHttp;
  for (const ProxyUrl& url : proxy.urls) {
    const std::string shown = Escape(url.ToString());
    if (url.tls) {
      context.Say(at, fmt::format("\"handshake\" cannot look into the TLS of \"{}\"", shown));
    } else if (!url.endpoint) {
      context.Say(at, fmt::format("\"handshake\" looks at connections to the address of the proxy, "
                                  "and \"{}\" has none; write SCHEME://ADDRESS:PORT",
                                  shown));
    } else if (url.speaks_http() != http) {
      context.Say(at, fmt::format("\"require\" is \"{}\", and \"{}\" speaks something else",
                                  kHandshakes[http ? 1 : 0], shown));
    }
  }
}

}  // namespace

Proxy CheckProxy(const syntax::Proxy& proxy, CheckContext& context) {
  Proxy checked;
  checked.name = proxy.name.value;
  for (const Text& text : proxy.urls) {
    if (auto url = ParseProxyUrl(text.value); url) {
      checked.urls.push_back(std::move(*url));
    } else {
      context.Say(text.at, url.error());
    }
  }
  CheckIsolation(proxy, checked, context);
  CheckTls(proxy, checked, context);
  static constexpr std::array kMeanings = {ProxyFrom::kAuto, ProxyFrom::kContainer,
                                           ProxyFrom::kHost};
  static_assert(kMeanings.size() == kProxyFroms.size());
  if (const auto word = context.Choose(proxy.from, "from", kProxyFroms)) {
    checked.from = kMeanings[*word];
  }
  if (proxy.timeout) {
    CheckTimeout(*proxy.timeout, checked, context);
  }
  return checked;
}

std::optional<HandshakeRules> CheckHandshake(const syntax::Policy& policy, const Proxy* proxy,
                                             CheckContext& context) {
  if (!policy.handshake) {
    return std::nullopt;
  }
  using Auth = HandshakeRules::Auth;
  static constexpr std::array kMeanings = {Auth::kAny, Auth::kNone, Auth::kPassword, Auth::kTor};
  static_assert(kMeanings.size() == kAuths.size());
  const syntax::Handshake& handshake = *policy.handshake;
  HandshakeRules rules;
  if (context.Choose(handshake.require, "require", kHandshakes) == 1U) {
    rules.require = HandshakeRules::Protocol::kHttp;
  }
  if (const auto auth = context.Choose(handshake.auth, "auth", kAuths)) {
    rules.auth = kMeanings[*auth];
  }
  if (handshake.isolation) {
    CheckRegex(*handshake.isolation, rules, context);
    if (rules.auth == Auth::kNone) {
      context.Say(handshake.isolation->at,
                  "\"isolation\" is about the password, and \"auth\" is \"none\"");
    }
  }
  if (rules.auth == Auth::kTor && rules.require == HandshakeRules::Protocol::kHttp) {
    context.Say(handshake.auth->at, "\"auth\" \"tor\" is a format of socks5");
  }
  if (!policy.proxy) {
    context.Say(handshake.at, "\"handshake\" needs a \"proxy\" in the same policy");
  } else if (proxy != nullptr) {
    CheckCanBeSeen(handshake.at, *proxy, rules.require, context);
  }
  return rules;
}

}  // namespace oakum::policy
