#include "agent/proxy/tls_stream.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "agent/proxy/openssl_context.h"
#include "policy/address.h"

namespace oakum::agent {

namespace {

int Bounded(size_t size) { return static_cast<int>(std::min<size_t>(size, INT_MAX)); }

class OpensslStream final : public TlsStream {
 public:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  OpensslStream(std::shared_ptr<const TlsContext> context, std::unique_ptr<SSL, Free> ssl)
      : context_(std::move(context)), ssl_(std::move(ssl)) {}

  int Handshake() override {
    const int result = Call([this] { return SSL_connect(ssl_.get()); });
    if (result == 0) {
      errno = ECONNRESET;
    }
    return result > 0 ? 0 : -1;
  }

  std::string problem() const override { return problem_; }

  ssize_t Read(void* data, size_t size) override {
    return Call([&] { return SSL_read(ssl_.get(), data, Bounded(size)); });
  }
  ssize_t Peek(void* data, size_t size) override {
    return Call([&] { return SSL_peek(ssl_.get(), data, Bounded(size)); });
  }
  ssize_t Write(const void* data, size_t size) override {
    if (size == 0) {
      return 0;
    }
    return Call([&] { return SSL_write(ssl_.get(), data, Bounded(size)); });
  }

  // SSL_shutdown(3): 0 when close_notify has been sent and the peer's has not come yet.
  int ShutdownWrite() override {
    if (failed_ != 0) {
      errno = failed_;
      return -1;
    }
    if ((SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN) != 0 && !shutdown_waits_) {
      return 0;
    }
    ERR_clear_error();
    errno = 0;
    const int result = SSL_shutdown(ssl_.get());
    shutdown_waits_ = false;
    if (result >= 0) {
      return 0;
    }
    Judge(result);
    shutdown_waits_ = errno == EAGAIN;
    return -1;
  }

  uint32_t wants() const override { return wants_; }
  bool has_pending() const override { return SSL_pending(ssl_.get()) > 0; }

 private:
  template <typename Function>
  int Call(Function function) {
    if (failed_ != 0) {
      errno = failed_;
      return -1;
    }
    ERR_clear_error();  // SSL_get_error(3) looks at what is left of earlier calls
    errno = 0;
    const int result = function();
    return result > 0 ? result : Judge(result);
  }

  // Turns OpenSSL's answer into that of read(2). After a failure nothing else can be done.
  int Judge(int result) {
    const int system_error = errno;
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_ZERO_RETURN:
        problem_ = "closed the connection";
        return 0;
      case SSL_ERROR_WANT_READ:
        wants_ = EPOLLIN;
        errno = EAGAIN;
        return -1;
      case SSL_ERROR_WANT_WRITE:
        wants_ = EPOLLOUT;
        errno = EAGAIN;
        return -1;
      case SSL_ERROR_SYSCALL:
        failed_ = system_error != 0 ? system_error : ECONNRESET;
        problem_ = fmt::format("TLS: {}", std::generic_category().message(failed_));
        break;
      default:
        JudgeProtocol();
        break;
    }
    ERR_clear_error();
    errno = failed_;
    return -1;
  }

  void JudgeProtocol() {
    const unsigned long code = ERR_peek_error();
    const long verified = SSL_get_verify_result(ssl_.get());
    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED || verified != X509_V_OK) {
      failed_ = EACCES;
      problem_ = fmt::format("TLS: its certificate is not to be trusted: {}",
                             X509_verify_cert_error_string(verified));
      return;
    }
    if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
        ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      failed_ = ECONNRESET;
      problem_ = "TLS: closed the connection early";
      return;
    }
    failed_ = EPROTO;
    problem_ = fmt::format("TLS: {}", TakeOpensslError());
  }

  const std::shared_ptr<const TlsContext> context_;
  const std::unique_ptr<SSL, Free> ssl_;
  uint32_t wants_ = EPOLLIN;
  int failed_ = 0;
  bool shutdown_waits_ = false;
  std::string problem_;
};

}  // namespace

Expected<std::unique_ptr<TlsStream>> TlsStream::Start(std::shared_ptr<const TlsContext> context,
                                                      int socket_fd, const std::string& peer) {
  ERR_clear_error();
  const auto fail = [] { return MakeError(ENOMEM, fmt::format("TLS: {}", TakeOpensslError())); };
  std::unique_ptr<SSL, OpensslStream::Free> ssl(SSL_new(context->ssl.get()));
  BIO* bio = ssl ? BIO_new(context->socket.get()) : nullptr;
  if (bio == nullptr) {
    return fail();
  }
  BIO_set_fd(bio, socket_fd, BIO_NOCLOSE);
  SSL_set_bio(ssl.get(), bio, bio);
  X509_VERIFY_PARAM* verify = SSL_get0_param(ssl.get());
  X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  std::string name = peer;  // SSL_ctrl(3) takes no const
  const bool named = policy::IpAddress::Parse(peer)
                         ? X509_VERIFY_PARAM_set1_ip_asc(verify, peer.c_str()) == 1
                         : SSL_set1_host(ssl.get(), peer.c_str()) == 1 &&
                               SSL_ctrl(ssl.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME,
                                        TLSEXT_NAMETYPE_host_name, name.data()) == 1;
  if (peer.empty() || !named) {
    return MakeError(EACCES, "TLS: no name that its certificate could be for");
  }
  SSL_set_connect_state(ssl.get());
  return std::make_unique<OpensslStream>(std::move(context), std::move(ssl));
}

}  // namespace oakum::agent
