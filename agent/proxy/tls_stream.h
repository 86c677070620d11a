// TLS over a non-blocking socket (OpenSSL).
#ifndef OAKUM_AGENT_PROXY_TLS_STREAM_H_
#define OAKUM_AGENT_PROXY_TLS_STREAM_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "agent/proxy/tls_context.h"
#include "base/error.h"

namespace oakum::agent {

class TlsStream {
 public:
  virtual ~TlsStream() = default;

  // A client on the connected socket, which outlives it. `peer` is whom the certificate must name:
  // a DNS name (also sent as SNI, RFC 6066 section 3) or an IP address (a subjectAltName of that
  // kind). Errors: those of OpenSSL.
  [[nodiscard]] static Expected<std::unique_ptr<TlsStream>> Start(
      std::shared_ptr<const TlsContext> context, int socket_fd, const std::string& peer);

  // Goes on with the handshake: 0 when it is done, or -1 with errno: EAGAIN as above, EACCES for a
  // certificate that is not to be trusted, and what Read says. Then problem() says why.
  [[nodiscard]] virtual int Handshake() = 0;
  [[nodiscard]] virtual std::string problem() const = 0;
  // Read that leaves the bytes where they are.
  [[nodiscard]] virtual ssize_t Peek(void* data, size_t size) = 0;

  // As read(2) and write(2) on a non-blocking socket: bytes, 0 at the peer's close_notify, -1 with
  // errno: EAGAIN (then wants() says for what to wait), ECONNRESET for an end without
  // close_notify, EPROTO for anything that is not TLS. SIGPIPE is never raised.
  [[nodiscard]] virtual ssize_t Read(void* data, size_t size) = 0;
  [[nodiscard]] virtual ssize_t Write(const void* data, size_t size) = 0;
  // Sends close_notify; the socket is shut down for writing by the caller afterwards. 0, or -1 with
  // errno as above.
  [[nodiscard]] virtual int ShutdownWrite() = 0;
  // EPOLLIN or EPOLLOUT: what the last Read or Write that said EAGAIN waits for.
  [[nodiscard]] virtual uint32_t wants() const = 0;
  // Decrypted bytes that can be read without the socket becoming readable.
  [[nodiscard]] virtual bool has_pending() const = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_TLS_STREAM_H_
