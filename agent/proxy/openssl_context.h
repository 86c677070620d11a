// TlsContext from the inside: only for the files that call OpenSSL.
#ifndef OAKUM_AGENT_PROXY_OPENSSL_CONTEXT_H_
#define OAKUM_AGENT_PROXY_OPENSSL_CONTEXT_H_

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace oakum::agent {

struct TlsContext {
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(BIO_METHOD* method) const { BIO_meth_free(method); }
  };
  std::unique_ptr<SSL_CTX, Free> ssl;
  // Reads and writes a socket with MSG_NOSIGNAL: OpenSSL's own uses write(2), which raises SIGPIPE.
  std::unique_ptr<BIO_METHOD, Free> socket;
};

// The first error that OpenSSL has recorded on this thread, as text; forgets them all.
[[nodiscard]] std::string TakeOpensslError();

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_OPENSSL_CONTEXT_H_
