// What a program says to a proxy, read in the proxy's place: the server's side of SOCKS5 (RFC 1928,
// RFC 1929) and of HTTP CONNECT (RFC 9110 section 9.3.6), up to the request.
#ifndef OAKUM_AGENT_PROXY_HANDSHAKE_CHECK_H_
#define OAKUM_AGENT_PROXY_HANDSHAKE_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/proxy/dial.h"
#include "policy/proxy.h"

namespace oakum::agent {

// Pure: bytes in, bytes and a verdict out. Nothing of it depends on how the bytes were cut into
// pieces.
class HandshakeCheck {
 public:
  // `rules` outlives it. `listens`: the proxy itself answers; then what it answered shows in what
  // the program says next.
  explicit HandshakeCheck(const policy::HandshakeRules& rules, bool listens = false)
      : rules_(rules), listens_(listens) {}

  enum class State : uint8_t {
    kReading,  // more has to come
    kAsked,    // the program has asked for target()
    kRefused,  // problem() says why
  };
  // Takes what has come next. `reply` gets what the program is to be sent now, in any state.
  State Take(std::string_view bytes, std::string& reply);
  [[nodiscard]] State state() const { return state_; }

  // Where to: a name, or else an address.
  [[nodiscard]] const ProxyTarget& target() const { return target_; }
  // What it was said with; no user: none were.
  [[nodiscard]] const Credentials& credentials() const { return credentials_; }
  // HTTP: the request head, to the empty line.
  [[nodiscard]] const std::string& http_head() const { return head_; }
  // What came after the request.
  [[nodiscard]] std::string TakeEarly() { return std::move(in_); }
  [[nodiscard]] const std::string& problem() const { return problem_; }

  // The proxy's answers to the request. `error` is the errno value of connect(2) that fits.
  [[nodiscard]] std::string Granted(const policy::Endpoint& bound) const;
  [[nodiscard]] std::string Refusal(int error) const;

 private:
  enum class Phase : uint8_t { kGreeting, kAuthentication, kRequest, kHead };
  static constexpr size_t kMaxHead = size_t{16} * 1024;

  [[nodiscard]] bool Advance(std::string& reply);  // false: more has to come
  bool Greeting(std::string& reply);
  bool Authentication(std::string& reply);
  bool Request(std::string& reply);
  bool Head(std::string& reply);
  bool Refuse(std::string problem);
  // Whether the credentials are as the policy wants them; else Refuse has been called.
  [[nodiscard]] bool CheckCredentials();
  [[nodiscard]] bool wants_credentials() const;
  [[nodiscard]] bool ReadHost(std::string_view authority);

  const policy::HandshakeRules& rules_;
  const bool listens_;
  bool offers_none_ = false;
  State state_ = State::kReading;
  Phase phase_ = Phase::kGreeting;
  std::string in_;
  std::string head_;
  std::string problem_;
  Credentials credentials_;
  ProxyTarget target_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HANDSHAKE_CHECK_H_
