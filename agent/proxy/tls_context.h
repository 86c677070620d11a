// Whom TLS connections to proxies trust, read once.
#ifndef OAKUM_AGENT_PROXY_TLS_CONTEXT_H_
#define OAKUM_AGENT_PROXY_TLS_CONTEXT_H_

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"

namespace oakum::agent {

// OpenSSL's SSL_CTX: TLS 1.2 or later, certificates verified, no ALPN.
struct TlsContext;

// Reading the system's authorities takes some 20 ms, so they are kept for a minute. Thread-safe.
class TlsContexts {
 public:
  static constexpr std::chrono::seconds kKept{60};

  // `ca_file`: PEM with the authorities to trust; empty: the system's (SSL_CERT_FILE and
  // SSL_CERT_DIR of the agent's environment count, SSL_CTX_set_default_verify_paths(3)). Errors:
  // the file cannot be read or holds no certificate.
  [[nodiscard]] Expected<std::shared_ptr<const TlsContext>> Get(const std::string& ca_file);

 private:
  struct Kept {
    std::shared_ptr<const TlsContext> context;
    std::chrono::steady_clock::time_point until;
  };
  static constexpr size_t kMaxKept = 64;

  std::mutex mutex_;
  std::map<std::string, Kept> kept_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_TLS_CONTEXT_H_
