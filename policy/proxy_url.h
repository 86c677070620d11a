// Addresses of proxies: SCHEME[+tls]://[USER:PASSWORD@]HOST:PORT or
// SCHEME+unix://[USER:PASSWORD@]/PATH.
#ifndef OAKUM_POLICY_PROXY_URL_H_
#define OAKUM_POLICY_PROXY_URL_H_

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "policy/address.h"

namespace oakum::policy {

// socks5: the client resolves names; socks5h: the proxy does (as curl(1) has it).
enum class ProxyScheme : uint8_t { kSocks5, kSocks5h, kHttp, kHttps };

struct ProxyUrl {
  ProxyScheme scheme = ProxyScheme::kSocks5h;
  std::optional<Endpoint> endpoint;  // an IP address and a port; or
  std::string host;                  // a name, with `port`; or
  uint16_t port = 0;
  std::string unix_path;  // the absolute path of a unix socket
  std::string user;       // empty: no authentication; both at most 255 bytes (RFC 1929)
  std::string password;
  bool tls = false;  // https, and socks5+tls and socks5h+tls

  [[nodiscard]] bool speaks_http() const {
    return scheme == ProxyScheme::kHttp || scheme == ProxyScheme::kHttps;
  }
  // As it was written, without user and password: what may be shown.
  [[nodiscard]] std::string ToString() const;
};

// Errors: what is wrong, with a suggestion. The password never appears in it.
[[nodiscard]] std::expected<ProxyUrl, std::string> ParseProxyUrl(std::string_view text);

// Takes "HOST:PORT" apart, the end of such a URL: sets endpoint, or host, and port.
[[nodiscard]] std::expected<void, std::string> ParseHostPort(std::string_view text, ProxyUrl& url);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PROXY_URL_H_
