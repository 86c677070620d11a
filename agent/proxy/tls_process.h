// The process that speaks TLS with proxies for the agent, and outlives it.
#ifndef OAKUM_AGENT_PROXY_TLS_PROCESS_H_
#define OAKUM_AGENT_PROXY_TLS_PROCESS_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Between an agent and that process there is a line, a SOCK_SEQPACKET pair that nobody else has an
// end of (unix(7)). Each message on it is one connection: its descriptors are a connected socket to
// a proxy and one end of a SOCK_STREAM pair, its bytes whom the certificate must name, a NUL, and
// the file with the authorities (TlsContexts::Get()).
//
// On that pair the process first says a TlsWord:
enum class TlsWord : uint8_t {
  kReady = 1,  // encrypted and trusted: what follows are the proxy's bytes, in both directions
  kRefused,    // behind it an errno (int32_t) and why, as text; then the end
  // The agent is to do it: the process has as many connections as it may, or cannot read the
  // authorities, which the agent perhaps can.
  kYours,
  // At the end of a relay that has ended in good order; without it both ways are reset.
  kEnded,
};
// The agent speaks to the proxy until that agrees. A byte with two descriptors, the container's
// socket (non-blocking) and the agent's own end of the pair, then makes a relay of it: from there
// on the process reads and writes the container's socket, after what is still to be read in that
// end. The pair says only whether it goes on: closed, the relay is reset. Said a second time it
// changes nothing.

// The agent's end of the line. Thread-safe.
class TlsProcess {
 public:
  // Has such a process started that has this end of a line (RunTlsProcess()).
  using Starter = std::function<Expected<void>(int line_fd)>;

  explicit TlsProcess(Starter start) : start_(std::move(start)) {}
  TlsProcess(const TlsProcess&) = delete;
  TlsProcess& operator=(const TlsProcess&) = delete;

  // Gives a connection, non-blocking, to it, which it has a copy of; started when it is first
  // needed, and again when it is gone. Returns the agent's end of the pair, non-blocking. Errors:
  // those of the calls, EAGAIN where it is behind; then it has not got the connection.
  [[nodiscard]] Expected<UniqueFd> Give(int socket_fd, const std::string& peer,
                                        const std::string& ca_file);

  static constexpr size_t kMaxRequest = 8192;  // PATH_MAX and a name, and more

 private:
  [[nodiscard]] Expected<void> Begin();

  const Starter start_;
  std::mutex mutex_;
  UniqueFd line_;
};

// Makes a relay of a connection that the proxy has agreed to. Errors: sendmsg(2)'s; EPIPE where the
// process is gone.
[[nodiscard]] Expected<void> HandOverToTls(int pair_fd, int near_fd);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_TLS_PROCESS_H_
