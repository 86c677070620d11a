// The client's side of SOCKS5: RFC 1928, RFC 1929, and Tor's RESOLVE (socks-extensions, Tor).
#ifndef OAKUM_AGENT_PROXY_SOCKS5_H_
#define OAKUM_AGENT_PROXY_SOCKS5_H_

#include <cstdint>
#include <string>

#include "agent/proxy/handshake.h"

namespace oakum::agent {

// With a user only method 2 is offered, without one only method 0: a proxy cannot choose to do
// without the credentials that keep circuits apart. Each message is waited for before the next one
// is sent, because small proxies take whatever one recv(2) gives for one message.
class Socks5 final : public Handshake {
 public:
  Socks5(ProxyCommand command, const ProxyTarget& target, Credentials credentials);

  [[nodiscard]] size_t wants() const override;
  [[nodiscard]] bool peeks() const override { return false; }
  [[nodiscard]] size_t Take(std::string_view bytes) override;
  [[nodiscard]] std::string Where() const override;
  void SkipGreeting() override;

 private:
  enum class Awaits : uint8_t { kMethod, kCredentials, kReply };

  [[nodiscard]] size_t MessageSize() const;
  void ReadMethod();
  void ReadCredentials();
  void ReadReply();
  void Refused(uint8_t code);
  void WrongVersion(uint8_t version);
  void SendRequest();

  const ProxyCommand command_;
  const Credentials credentials_;
  std::string request_;  // sent when the proxy is ready for it
  Awaits awaits_ = Awaits::kMethod;
  std::string in_;  // of the message that is awaited
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_SOCKS5_H_
