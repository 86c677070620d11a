// One attempt to reach something through a proxy: connected, spoken to, with the next URL where one
// fails.
#ifndef OAKUM_AGENT_PROXY_DIAL_H_
#define OAKUM_AGENT_PROXY_DIAL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/proxy/upstreams.h"
#include "agent/server/event_loop.h"
#include "base/unique_fd.h"
#include "policy/address.h"
#include "policy/proxy.h"

namespace oakum::agent {

class ReadyProxies;
class TlsProcess;
class TlsStream;

// Where a proxy is asked to go.
struct ProxyTarget {
  std::string name;          // ATYP domain name, CONNECT NAME:PORT; empty: `address`
  policy::Endpoint address;  // `port` counts for a name too
};

enum class ProxyCommand : uint8_t {
  kConnect,
  kUdpAssociate,  // RFC 1928 section 7
  kResolve,       // 0xF0: Tor's RESOLVE of target.name
  kResolvePtr,    // 0xF1: of target.address
  kGreet,         // nothing yet: what comes before a request is said, with one URL only
};

// What went wrong with a proxy, for the program and for the event.
struct ProxyFailure {
  int errno_value = 0;  // what connect(2) says
  // "10.88.0.1:9050 (socks5h): refused the credentials"; never holds credentials.
  std::string text;
  // Whether the proxy did its work and the destination is to blame: then no other URL is tried.
  bool destination = false;
};

// User and password (RFC 1929, RFC 7617); no user: no authentication is offered.
struct Credentials {
  std::string user;
  std::string password;
};

struct DialRequest {
  // Keeps `proxy` alive: the policy that it belongs to.
  std::shared_ptr<const void> keep;
  const policy::Proxy* proxy = nullptr;
  ProxyCommand command = ProxyCommand::kConnect;
  ProxyTarget target;
  // In the place of the URL's; from Isolator. Nothing: the URL's own.
  std::optional<Credentials> credentials;
  // Makes the TCP socket towards the proxy: empty for the agent's own network namespace. Called on
  // the loop's thread with AF_INET or AF_INET6; an invalid descriptor with errno is a failure.
  std::function<UniqueFd(int domain)> make_socket;
  // HTTP: sent in the place of our own request head, as the container's program wrote it.
  std::string http_head;
  // Where greeted connections are kept, which outlives the Dial; null: none is used. `network`:
  // what tells the network namespace that make_socket makes sockets in, 0 for the agent's own.
  ReadyProxies* ready = nullptr;
  uint64_t network = 0;
  // Who speaks TLS, if the proxy is reached by it, and outlives the Dial; null: this process.
  TlsProcess* tls_process = nullptr;
};

// A connection through the proxy: bytes of the destination come next.
struct ProxyStream {
  UniqueFd fd;  // non-blocking
  // Set where the proxy is reached by TLS: read and write through it, never on `fd` itself.
  std::unique_ptr<TlsStream> tls;
  // `fd` is the end of a pair whose other one a TlsProcess has, which speaks with the proxy.
  bool in_tls_process = false;
  // BND.ADDR and BND.PORT: kUdpAssociate (with the proxy's own address where it says 0.0.0.0 or
  // ::), kResolve.
  policy::Endpoint bound;
  std::string resolved_name;  // kResolvePtr
  // kGreet: whose connection it is; lives as long as the policy.
  const policy::ProxyUrl* url = nullptr;
};

struct DialResult {
  std::optional<ProxyFailure> failure;  // set: no stream
  ProxyStream stream;
};

class Dial {
 public:
  // `done` is called once on the loop's thread, never from inside Start, and not at all after the
  // Dial was destroyed. `upstreams` knows which URLs have failed lately, and outlives the Dial.
  [[nodiscard]] static std::unique_ptr<Dial> Start(EventLoop& loop, Upstreams& upstreams,
                                                   DialRequest request,
                                                   std::function<void(DialResult)> done);
  virtual ~Dial() = default;  // gives up
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_DIAL_H_
