#include "tls_server.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

namespace oakum::agent {

namespace {

constexpr const char* kNewKey = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

}  // namespace

Certificates::Certificates() {
  std::string pattern = (std::filesystem::temp_directory_path() / "oakum-tls-XXXXXX").string();
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  dir_ = pattern;
  Run(
      fmt::format("req -x509 {} -keyout {}/ca.key -out {}/ca.pem -days 2 -subj /CN=authority "
                  "-addext basicConstraints=critical,CA:TRUE",
                  kNewKey, dir_, dir_));
}

Certificates::~Certificates() {
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

void Certificates::Run(const std::string& arguments) const {
  const std::string command = fmt::format("openssl {} >{}/log 2>&1", arguments, dir_);
  EXPECT_EQ(std::system(command.c_str()), 0)
      << command;  // NOLINT(concurrency-mt-unsafe,bugprone-command-processor,cert-env33-c)
}

std::string Certificates::Make(const std::string& name, const std::string& names) {
  const std::string stem = dir_ + "/" + name;
  Run(
      fmt::format("req -x509 {} -keyout {}.key -out {}.pem -days 2 -subj /CN=x -CA {}/ca.pem "
                  "-CAkey {}/ca.key -addext basicConstraints=CA:FALSE -addext subjectAltName={}",
                  kNewKey, stem, stem, dir_, dir_, names));
  return stem;
}

std::string Certificates::MakeExpired(const std::string& name, const std::string& names) {
  const std::string stem = dir_ + "/" + name;
  Run(fmt::format("req {} -keyout {}.key -out {}.csr -subj /CN=x -addext subjectAltName={}",
                  kNewKey, stem, stem, names));
  // x509(1): negative days lie in the past.
  Run(
      fmt::format("x509 -req -in {}.csr -out {}.pem -CA {}/ca.pem -CAkey {}/ca.key -CAcreateserial "
                  "-days -1 -copy_extensions copy",
                  stem, stem, dir_, dir_));
  return stem;
}

std::string Certificates::MakeSelfSigned(const std::string& name, const std::string& names) {
  const std::string stem = dir_ + "/" + name;
  Run(
      fmt::format("req -x509 {} -keyout {}.key -out {}.pem -days 2 -subj /CN=x "
                  "-addext subjectAltName={}",
                  kNewKey, stem, stem, names));
  return stem;
}

TlsServer::TlsServer(int fd, const std::string& stem, int max_version)
    : context_(SSL_CTX_new(TLS_server_method())) {
  SSL_CTX* context = context_.get();
  SSL_CTX_set_security_level(context, 0);  // or there is no TLS 1.1 to refuse
  SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context, max_version);
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  EXPECT_EQ(SSL_CTX_use_certificate_file(context, (stem + ".pem").c_str(), SSL_FILETYPE_PEM), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context, (stem + ".key").c_str(), SSL_FILETYPE_PEM), 1);
  ssl_.reset(SSL_new(context));
  SSL_set_fd(ssl_.get(), fd);
  ok_ = SSL_accept(ssl_.get()) == 1;
}

std::string TlsServer::server_name() const {
  const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? "" : name;
}

std::string TlsServer::Read(size_t size) {
  std::string out(size, '\0');
  size_t have = 0;
  while (have < size) {
    const int got = SSL_read(ssl_.get(), out.data() + have, static_cast<int>(size - have));
    if (got <= 0) {
      break;
    }
    have += static_cast<size_t>(got);
  }
  out.resize(have);
  return out;
}

void TlsServer::Write(std::string_view bytes) {
  (void)SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
}

void TlsServer::CloseNotify() { (void)SSL_shutdown(ssl_.get()); }

}  // namespace oakum::agent
