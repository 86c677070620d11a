// The client's side of HTTP CONNECT: RFC 9110 section 9.3.6, RFC 9112, Basic of RFC 7617.
#ifndef OAKUM_AGENT_PROXY_HTTP_CONNECT_H_
#define OAKUM_AGENT_PROXY_HTTP_CONNECT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/proxy/handshake.h"

namespace oakum::agent {

class HttpConnect final : public Handshake {
 public:
  // All response heads together: interim ones (1xx) and the last.
  static constexpr size_t kMaxHead = size_t{16} * 1024;

  // `head` empty: one of our own.
  HttpConnect(ProxyCommand command, const ProxyTarget& target, const Credentials& credentials,
              const std::string& head);

  [[nodiscard]] size_t wants() const override;
  [[nodiscard]] bool peeks() const override { return true; }
  [[nodiscard]] size_t Take(std::string_view bytes) override;
  [[nodiscard]] std::string Where() const override { return "before it answered the request"; }

 private:
  void ReadByte(char c);
  void EndHead();
  void Answered(int status);

  size_t seen_ = 0;   // of all heads
  std::string line_;  // the status line so far
  bool in_status_ = true;
  bool line_empty_ = true;  // nothing but CR in the current line
};

// RFC 4648 section 4, with padding.
[[nodiscard]] std::string Base64(std::string_view bytes);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HTTP_CONNECT_H_
