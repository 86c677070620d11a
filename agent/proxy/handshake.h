// What is said to a proxy and what it answers, apart from how the bytes get there.
#ifndef OAKUM_AGENT_PROXY_HANDSHAKE_H_
#define OAKUM_AGENT_PROXY_HANDSHAKE_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/proxy/dial.h"
#include "policy/address.h"
#include "policy/proxy_url.h"

namespace oakum::agent {

// One conversation up to the first byte of the destination. No I/O: the caller sends to_send(),
// then reads what wants() allows, until done() or failure(). Failure texts say what was wrong,
// without the proxy's name; they never hold credentials, nor anything that the proxy has sent.
class Handshake {
 public:
  virtual ~Handshake() = default;
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  // What is to be sent before anything is read. Empty: nothing.
  [[nodiscard]] std::string_view to_send() const { return out_; }
  void Sent(size_t size) { out_.erase(0, size); }

  // How many bytes may be given to Take next; 0 when it is over. Unless peeks(), these surely
  // belong to the handshake and can be taken off the stream.
  [[nodiscard]] virtual size_t wants() const = 0;
  // Whether only Take can say where the handshake ends: look with MSG_PEEK (recv(2)), take off what
  // Take says.
  [[nodiscard]] virtual bool peeks() const = 0;
  // Goes on with bytes of the proxy, at most wants(). Returns how many of them belong to the
  // handshake.
  [[nodiscard]] virtual size_t Take(std::string_view bytes) = 0;
  // For a connection on which ProxyCommand::kGreet has succeeded, with the same credentials.
  virtual void SkipGreeting() {}
  // The proxy has closed the connection.
  void Closed() {
    if (!over()) {
      Fail(ECONNRESET, "closed the connection " + Where());
    }
  }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] const std::optional<ProxyFailure>& failure() const { return failure_; }
  [[nodiscard]] bool over() const { return done_ || failure_; }
  // Whether the proxy has been told the destination: what it does from then on may be due to that.
  [[nodiscard]] bool requested() const { return requested_; }
  // "before it chose a method": how far the proxy had come.
  [[nodiscard]] virtual std::string Where() const = 0;

  // After done(): BND.ADDR and BND.PORT, or what a name was resolved to.
  [[nodiscard]] const policy::Endpoint& bound() const { return bound_; }
  [[nodiscard]] const std::string& resolved_name() const { return resolved_name_; }

 protected:
  Handshake() = default;
  void Fail(int errno_value, std::string text, bool destination = false) {
    out_.clear();
    failure_ = ProxyFailure{errno_value, std::move(text), destination};
  }

  std::string out_;
  bool done_ = false;
  bool requested_ = false;
  std::optional<ProxyFailure> failure_;
  policy::Endpoint bound_;
  std::string resolved_name_;
};

// What a proxy is asked.
struct ProxyQuestion {
  ProxyCommand command = ProxyCommand::kConnect;
  ProxyTarget target;
  std::optional<Credentials> credentials;  // nothing: those of the URL
  std::string http_head;                   // as in DialRequest
};

// The handshake that the URL's scheme asks for. One that cannot be spoken (HTTP has no UDP
// ASSOCIATE) has failed from the start.
[[nodiscard]] std::unique_ptr<Handshake> StartHandshake(const policy::ProxyUrl& url,
                                                        const ProxyQuestion& question);

// Whether the proxy is reached by TLS.
[[nodiscard]] bool SpeaksTls(const policy::ProxyUrl& url);

// "10.88.0.1:9050 (socks5h)": a URL without its credentials, for people.
[[nodiscard]] std::string ProxyLabel(const policy::ProxyUrl& url);

// "name:443", "192.0.2.1:443", "[2001:db8::1]:443".
[[nodiscard]] std::string HostAndPort(const std::string& name, const policy::Endpoint& address);

// Whether a name can be handed to a proxy: 1 to 255 bytes (RFC 1928 section 5) of which none can be
// taken for something else than a part of a name.
[[nodiscard]] bool IsProxyableName(std::string_view name);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HANDSHAKE_H_
