#include "policy/proxy_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

constexpr size_t kMaxCredential = 255;  // RFC 1929 section 2
constexpr size_t kMaxHost = 253;
constexpr size_t kMaxUnixPath = 107;  // unix(7): sun_path with its NUL

constexpr std::array<std::pair<std::string_view, ProxyScheme>, 4> kSchemes = {
    {{"socks5", ProxyScheme::kSocks5},
     {"socks5h", ProxyScheme::kSocks5h},
     {"http", ProxyScheme::kHttp},
     {"https", ProxyScheme::kHttps}}};
constexpr std::array<std::string_view, 6> kSchemeNames = {"socks5", "socks5h",    "http",
                                                          "https",  "socks5+tls", "socks5h+tls"};

std::optional<ProxyScheme> FindScheme(std::string_view name) {
  for (const auto& [known, scheme] : kSchemes) {
    if (known == name) {
      return scheme;
    }
  }
  return std::nullopt;
}

bool IsSchemeChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '-' || c == '.';
}

// Percent-decoding, RFC 3986 section 2.1. Empty optional when malformed.
std::optional<std::string> Decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 3 > text.size()) {
      return std::nullopt;
    }
    uint8_t byte = 0;
    const char* digits = text.data() + i + 1;
    const auto [end, error] = std::from_chars(digits, digits + 2, byte, 16);
    if (error != std::errc() || end != digits + 2 || byte == 0) {
      return std::nullopt;
    }
    out.push_back(static_cast<char>(byte));
    i += 2;
  }
  return out;
}

std::string_view NameOf(ProxyScheme scheme) {
  for (const auto& [name, known] : kSchemes) {
    if (known == scheme) {
      return name;
    }
  }
  return "socks5h";
}

std::unexpected<std::string> Fail(std::string what) { return std::unexpected(std::move(what)); }

std::expected<void, std::string> TakeCredentials(std::string_view& rest, bool is_unix,
                                                 ProxyUrl& url) {
  // A path may have an "@" of its own.
  const size_t at = is_unix ? rest.find("@/") : rest.rfind('@');
  if (at == std::string_view::npos || rest.starts_with('/')) {
    return {};
  }
  const std::string_view credentials = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  const size_t colon = std::min(credentials.find(':'), credentials.size());
  const auto user = Decode(credentials.substr(0, colon));
  const auto password =
      colon == credentials.size() ? std::string() : Decode(credentials.substr(colon + 1));
  if (!user || !password) {
    return Fail("\"%\" in the user or password stands before two hexadecimal digits");
  }
  if (user->empty() || user->size() > kMaxCredential || password->size() > kMaxCredential) {
    return Fail(fmt::format("user and password have at most {} bytes, the user at least one",
                            kMaxCredential));
  }
  url.user = *user;
  url.password = *password;
  return {};
}

}  // namespace

std::string ProxyUrl::ToString() const {
  const std::string_view name = NameOf(scheme);
  if (!unix_path.empty()) {
    return fmt::format("{}+unix://{}", name, unix_path);
  }
  const std::string_view transport = tls && !speaks_http() ? "+tls" : "";
  const std::string address = endpoint ? endpoint->ip.ToString() : host;
  const bool bracketed = address.find(':') != std::string::npos;
  return fmt::format("{}{}://{}{}{}:{}", name, transport, bracketed ? "[" : "", address,
                     bracketed ? "]" : "", port);
}

std::expected<void, std::string> ParseHostPort(std::string_view text, ProxyUrl& url) {
  const size_t colon = text.rfind(':');
  const size_t bracket = text.rfind(']');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) {
    return Fail(fmt::format("no port in \"{}\"; write HOST:PORT", Escape(text)));
  }
  const std::string_view digits = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), url.port);
  if (error != std::errc() || end != digits.data() + digits.size() || url.port == 0) {
    // What is no number may be a password that lacks its "@".
    const bool number = digits.find_first_not_of("0123456789") == std::string_view::npos;
    return Fail(number ? fmt::format("\"{}\" is not a port; 1 to 65535 are", digits)
                       : "what stands after the last \":\" is not a port; 1 to 65535 are");
  }
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
  }
  const auto address = IpAddress::Parse(host);
  if (address && bracketed == (host.find(':') != std::string_view::npos)) {
    if (CanonicalDestination(*address) != *address) {
      return Fail(fmt::format("\"{}\" is no address to connect to; did you mean \"{}\"?", host,
                              CanonicalDestination(*address).ToString()));
    }
    url.endpoint = Endpoint{.ip = *address, .port = url.port};
    return {};
  }
  const auto valid = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  };
  if (bracketed || host.empty() || host.size() > kMaxHost ||
      !std::all_of(host.begin(), host.end(), valid) ||
      host.find_first_not_of("0123456789.") == std::string_view::npos) {
    return Fail(fmt::format("\"{}\" is neither an address nor a name{}", Escape(host),
                            host.find(':') != std::string_view::npos && !bracketed
                                ? "; an IPv6 address stands in brackets"
                                : ""));
  }
  url.host = host;
  return {};
}

std::expected<ProxyUrl, std::string> ParseProxyUrl(std::string_view text) {
  const size_t colon = text.find("://");
  // What stands there may be a password, if it is no scheme.
  if (colon == std::string_view::npos ||
      !std::all_of(text.begin(), text.begin() + static_cast<ptrdiff_t>(colon), IsSchemeChar)) {
    return Fail("a proxy is SCHEME://HOST:PORT, as in \"socks5h://10.88.0.1:9050\"");
  }
  std::string_view scheme = text.substr(0, colon);
  std::string_view rest = text.substr(colon + 3);
  static constexpr std::string_view kUnix = "+unix";
  static constexpr std::string_view kTls = "+tls";
  const std::string_view whole_scheme = scheme;
  const bool is_unix = scheme.ends_with(kUnix);
  const bool is_tls = scheme.ends_with(kTls);
  scheme.remove_suffix(is_unix ? kUnix.size() : is_tls ? kTls.size() : 0);
  const auto known = FindScheme(scheme);
  if (!known) {
    return Fail(fmt::format("unknown scheme \"{}\"{}", Escape(whole_scheme),
                            DidYouMean(whole_scheme, kSchemeNames)));
  }
  ProxyUrl url;
  url.scheme = *known;
  url.tls = is_tls || *known == ProxyScheme::kHttps;
  if (is_tls && url.speaks_http()) {
    return Fail(fmt::format("\"{}\" is written \"https\"", Escape(whole_scheme)));
  }
  if (is_unix && url.tls) {
    return Fail("a unix socket is reached without TLS; write http+unix:///PATH");
  }
  if (auto taken = TakeCredentials(rest, is_unix, url); !taken) {
    return std::unexpected(std::move(taken.error()));
  }
  if (is_unix) {
    if (!rest.starts_with('/') || rest.size() < 2 || rest.size() > kMaxUnixPath) {
      return Fail(fmt::format("no absolute path of at most {} bytes; write {}+unix:///PATH",
                              kMaxUnixPath, scheme));
    }
    url.unix_path = rest;
    return url;
  }
  if (rest.ends_with('/')) {
    rest.remove_suffix(1);
  }
  if (auto taken = ParseHostPort(rest, url); !taken) {
    return std::unexpected(std::move(taken.error()));
  }
  return url;
}

}  // namespace oakum::policy
