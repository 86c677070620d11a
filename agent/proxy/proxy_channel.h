// A connection to a proxy as it is spoken on: in clear, or by TLS.
#ifndef OAKUM_AGENT_PROXY_PROXY_CHANNEL_H_
#define OAKUM_AGENT_PROXY_PROXY_CHANNEL_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "agent/proxy/dial.h"
#include "agent/proxy/tls_context.h"
#include "agent/proxy/tls_process.h"
#include "agent/proxy/tls_stream.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// TLS is spoken by a process of its own where that takes the connection, and else by this one.
class ProxyChannel {
 public:
  enum class Tls : uint8_t {
    kEstablished,
    kWaits,  // for wants(EPOLLIN) of fd(), then ContinueTls()
  };
  struct TlsFailure {
    ProxyFailure failure;
    bool down = false;  // the proxy does not work, for anybody
  };
  using TlsResult = std::expected<Tls, TlsFailure>;

  explicit ProxyChannel(TlsContexts& contexts) : contexts_(contexts) {}

  // A socket that is or will be connected to the proxy, non-blocking; in clear so far.
  void Open(UniqueFd socket);
  // One that has been spoken on before.
  void Open(ProxyStream stream);
  void Close();
  // To the proxy, or to the process that speaks TLS with it; -1 where there is none.
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] bool in_process() const { return in_process_; }

  // Begins TLS on the connected socket. `peer` and `ca_file`: as TlsStream::Start() and
  // TlsContexts::Get() have them; `process`: who is to speak it, null: this process. These two may
  // put another socket in the place of fd(): the second only where in_process() was true.
  [[nodiscard]] TlsResult StartTls(std::string peer, std::string ca_file, TlsProcess* process);
  [[nodiscard]] TlsResult ContinueTls();

  // Bytes put or got, 0 at the end, -1 with errno as read(2) and write(2) on a non-blocking socket;
  // `peek`: they stay where they are.
  [[nodiscard]] ssize_t Put(std::string_view bytes);
  [[nodiscard]] ssize_t Get(char* data, size_t size, bool peek);
  // What an EAGAIN waits for: `events` in clear.
  [[nodiscard]] uint32_t wants(uint32_t events) const { return tls_ ? tls_->wants() : events; }
  // What errno has to say about Put and Get.
  [[nodiscard]] std::string Problem(int error) const;

  // Hands the connection over to `stream`.
  void Release(ProxyStream& stream);

 private:
  [[nodiscard]] TlsResult HearProcess();
  [[nodiscard]] TlsResult StartHere();
  [[nodiscard]] TlsResult Encrypt();

  TlsContexts& contexts_;
  std::string peer_;
  std::string ca_file_;
  UniqueFd socket_;
  UniqueFd tcp_;  // to the proxy, as long as the process may give it back
  bool in_process_ = false;
  std::unique_ptr<TlsStream> tls_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PROXY_CHANNEL_H_
