// TLS over a non-blocking socket (OpenSSL).
#ifndef OAKUM_AGENT_PROXY_TLS_STREAM_H_
#define OAKUM_AGENT_PROXY_TLS_STREAM_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"

namespace oakum::agent {

class TlsStream {
 public:
  virtual ~TlsStream() = default;

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
