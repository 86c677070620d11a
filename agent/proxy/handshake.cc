#include "agent/proxy/handshake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "agent/proxy/http_connect.h"
#include "agent/proxy/socks5.h"
#include "base/error.h"

namespace oakum::agent {

namespace {

std::string_view SchemeName(policy::ProxyScheme scheme) {
  switch (scheme) {
    case policy::ProxyScheme::kSocks5:
      return "socks5";
    case policy::ProxyScheme::kSocks5h:
      return "socks5h";
    case policy::ProxyScheme::kHttp:
      return "http";
    case policy::ProxyScheme::kHttps:
      return "https";
  }
  return "unknown";
}

}  // namespace

std::unique_ptr<Handshake> StartHandshake(const policy::ProxyUrl& url,
                                          const ProxyQuestion& question) {
  const Credentials credentials =
      question.credentials.value_or(Credentials{.user = url.user, .password = url.password});
  if (url.speaks_http()) {
    return std::make_unique<HttpConnect>(question.command, question.target, credentials,
                                         question.http_head);
  }
  ProxyTarget target = question.target;
  if (question.command == ProxyCommand::kUdpAssociate && target.name.empty() &&
      target.address == policy::Endpoint{} && (!url.endpoint || url.endpoint->ip.IsV4())) {
    // "All zeros" (RFC 1928 section 4) of the family that the proxy is spoken to by: dante looks
    // for an address of its own of that family.
    target.address.ip = policy::IpAddress::FromV4({0, 0, 0, 0});
  }
  return std::make_unique<Socks5>(question.command, target, credentials);
}

std::string HostAndPort(const std::string& name, const policy::Endpoint& address) {
  if (!name.empty()) {
    return fmt::format("{}:{}", name, address.port);
  }
  return address.ip.IsV4() ? fmt::format("{}:{}", address.ip.ToString(), address.port)
                           : fmt::format("[{}]:{}", address.ip.ToString(), address.port);
}

bool SpeaksTls(const policy::ProxyUrl& url) {
  return url.tls || url.scheme == policy::ProxyScheme::kHttps;
}

std::string ProxyLabel(const policy::ProxyUrl& url) {
  const std::string place =
      !url.unix_path.empty()
          ? Escape(url.unix_path)
          : HostAndPort(url.host,
                        url.endpoint.value_or(policy::Endpoint{.ip = {}, .port = url.port}));
  const bool tls = url.tls && url.scheme != policy::ProxyScheme::kHttps;
  return fmt::format("{} ({}{})", place, SchemeName(url.scheme), tls ? "+tls" : "");
}

bool IsProxyableName(std::string_view name) {
  constexpr size_t kMaxName = 255;
  const auto harmless = [](char c) {
    return c > ' ' && c < 0x7f &&
           std::string_view("/?#@:[]\\\"<>%").find(c) == std::string_view::npos;
  };
  return !name.empty() && name.size() <= kMaxName && std::ranges::all_of(name, harmless);
}

}  // namespace oakum::agent
