// What a policy says about proxies, about what is spoken to them, and about names.
#ifndef OAKUM_POLICY_PROXY_H_
#define OAKUM_POLICY_PROXY_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"
#include "policy/password_pattern.h"
#include "policy/proxy_url.h"
#include "policy/rule_text.h"

namespace oakum::policy {

// Who shares credentials, and with them a circuit of Tor's ("IsolateSOCKSAuth", tor(1)).
enum class Isolation : uint8_t { kNone, kContainer, kProcess, kDestination, kConnection };

// How isolating credentials look: user and password of RFC 1929, or the user name that Tor reserves
// for it ("<torS0X>0", Tor proposal 351) with the random part as password.
enum class CredentialFormat : uint8_t { kPassword, kTor };

// Whose network reaches the proxy.
enum class ProxyFrom : uint8_t {
  kAuto,       // the container's for an address that is not loopback, else the agent's; also the
               // agent's where the container has no route
  kContainer,  // the container's
  kHost,       // the agent's
};

struct Proxy {
  std::string name;
  std::vector<ProxyUrl> urls;  // at least one, tried in this order; those that failed lately last
  Isolation isolate = Isolation::kNone;
  CredentialFormat format = CredentialFormat::kPassword;
  ProxyFrom from = ProxyFrom::kAuto;
  std::string ca_file;                // PEM; empty: the system's authorities
  std::string server_name;            // whom the certificate must name; empty: the URL's host
  std::chrono::seconds timeout{120};  // for an answer of the proxy, 1 to 3600
};

// "handshake": what a program that speaks to the proxy itself must speak.
struct HandshakeRules {
  enum class Protocol : uint8_t { kSocks5, kHttp } require = Protocol::kSocks5;
  enum class Auth : uint8_t { kAny, kNone, kPassword, kTor } auth = Auth::kAny;
  std::optional<PasswordPattern> isolation;  // what the password must match
};

// Where the addresses that stand for names are from: benchmarking (RFC 2544, never routed on the
// Internet) and a unique local prefix (RFC 4193) of Oakum's own.
inline constexpr std::string_view kSyntheticV4 = "198.18.0.0/15";
inline constexpr std::string_view kSyntheticV6 = "fd6f:616b:756d::/64";
[[nodiscard]] bool IsSyntheticAddress(const IpAddress& ip);

enum class DnsRule : uint8_t {
  kFollow,  // port 53 is a port like any other
  kAllow,   // carried to the server that was asked, the answers watched
  kDeny,
  kProxy,  // answered by the agent
};

// "resolve": how the agent answers under "dns": "proxy".
enum class Resolve : uint8_t {
  kSynthetic,  // with addresses of a private pool that stand for names
  kTor,        // by Tor's RESOLVE and RESOLVE_PTR (socks-extensions.txt, Tor)
  kServer,     // by DNS over TCP (RFC 7766) through the proxy to a named server
};

struct DnsSettings {
  DnsRule rule = DnsRule::kDeny;
  Resolve resolve = Resolve::kSynthetic;
  std::optional<Endpoint> server;  // kServer: an address, or
  std::string server_name;         // a name, with `server_port`
  uint16_t server_port = kDnsPort;
  const Proxy* proxy = nullptr;      // kProxy: through which; lives as long as the policy
  std::vector<IpAddress> resolvers;  // "resolvers": whose answers bind names to addresses, besides
                                     // those of the container's resolv.conf(5) at its start
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PROXY_H_
