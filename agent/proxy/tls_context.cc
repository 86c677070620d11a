#include "agent/proxy/tls_context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "agent/proxy/openssl_context.h"

namespace oakum::agent {

namespace {

int SocketOf(BIO* bio) { return static_cast<int>(BIO_get_fd(bio, nullptr)); }

bool WouldWait(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

int WriteSocket(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t put = send(SocketOf(bio), data, static_cast<size_t>(size), MSG_NOSIGNAL);
  if (put < 0 && WouldWait(errno)) {
    BIO_set_retry_write(bio);
  }
  return static_cast<int>(put);
}

int ReadSocket(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t got = recv(SocketOf(bio), data, static_cast<size_t>(size), 0);
  if (got < 0 && WouldWait(errno)) {
    BIO_set_retry_read(bio);
  }
  if (got == 0) {
    BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  }
  return static_cast<int>(got);
}

long ControlSocket(BIO* bio, int command, long number, void* pointer) {
  switch (command) {
    case BIO_C_SET_FD:
      BIO_set_data(bio, reinterpret_cast<void*>(  // NOLINT(performance-no-int-to-ptr)
                            static_cast<intptr_t>(*static_cast<int*>(pointer))));
      BIO_set_shutdown(bio, static_cast<int>(number));
      BIO_set_init(bio, 1);
      return 1;
    case BIO_C_GET_FD:
      return static_cast<long>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
    case BIO_CTRL_FLUSH:
      return 1;
    default:  // BIO_ctrl(3): 0 for what is not known
      return 0;
  }
}

Expected<std::shared_ptr<const TlsContext>> Make(const std::string& ca_file) {
  ERR_clear_error();
  auto context = std::make_shared<TlsContext>();
  context->ssl.reset(SSL_CTX_new(TLS_client_method()));
  context->socket.reset(
      BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "socket"));
  if (!context->ssl || !context->socket) {
    return MakeError(ENOMEM, "OpenSSL: " + TakeOpensslError());
  }
  BIO_meth_set_write(context->socket.get(), WriteSocket);
  BIO_meth_set_read(context->socket.get(), ReadSocket);
  BIO_meth_set_ctrl(context->socket.get(), ControlSocket);
  SSL_CTX* ssl = context->ssl.get();
  SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
  SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
  const int loaded = ca_file.empty() ? SSL_CTX_set_default_verify_paths(ssl)
                                     : SSL_CTX_load_verify_file(ssl, ca_file.c_str());
  if (loaded != 1) {
    return MakeError(EACCES,
                     fmt::format("{}: {}", ca_file.empty() ? "the system's authorities" : ca_file,
                                 TakeOpensslError()));
  }
  return std::shared_ptr<const TlsContext>(std::move(context));
}

}  // namespace

std::string TakeOpensslError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) {
    return "unknown error";
  }
  if (ERR_SYSTEM_ERROR(code)) {
    return std::generic_category().message(ERR_GET_REASON(code));
  }
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("error {:#x}", code);
}

Expected<std::shared_ptr<const TlsContext>> TlsContexts::Get(const std::string& ca_file) {
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(ca_file); found != kept_.end() && found->second.until > now) {
    return found->second.context;
  }
  auto made = Make(ca_file);
  if (!made) {
    return made;
  }
  if (kept_.size() >= kMaxKept) {
    kept_.clear();
  }
  kept_[ca_file] = {*made, now + kKept};
  return made;
}

}  // namespace oakum::agent
