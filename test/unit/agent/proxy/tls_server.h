// A TLS server on one accepted connection, and the certificates that it shows.
#ifndef OAKUM_TEST_UNIT_AGENT_PROXY_TLS_SERVER_H_
#define OAKUM_TEST_UNIT_AGENT_PROXY_TLS_SERVER_H_

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

namespace oakum::agent {

// Certificates made with openssl(1) in a folder of their own, gone with this.
class Certificates {
 public:
  Certificates();
  ~Certificates();
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;

  // The authority's certificate: a PEM file.
  [[nodiscard]] std::string ca_file() const { return dir_ + "/ca.pem"; }
  // The stem of a certificate ("STEM.pem") and its key ("STEM.key"), signed by the authority:
  // `names` is a subjectAltName ("DNS:proxy.test,IP:127.0.0.1").
  [[nodiscard]] std::string Make(const std::string& name, const std::string& names);
  // The same, valid until yesterday.
  [[nodiscard]] std::string MakeExpired(const std::string& name, const std::string& names);
  // The same, signed by itself.
  [[nodiscard]] std::string MakeSelfSigned(const std::string& name, const std::string& names);

 private:
  void Run(const std::string& arguments) const;

  std::string dir_;
};

// The server's side of TLS over a blocking socket.
class TlsServer {
 public:
  // `stem` as above. `max_version`: 0 or TLS1_1_VERSION and its kin.
  TlsServer(int fd, const std::string& stem, int max_version = 0);
  // Whether the client has accepted us.
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::string server_name() const;  // SNI
  [[nodiscard]] std::string Read(size_t size);
  void Write(std::string_view bytes);
  void CloseNotify();

 private:
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;
  bool ok_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_PROXY_TLS_SERVER_H_
