#include "agent/proxy/proxy_channel.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "agent/proxy/proxy_socket.h"

namespace oakum::agent {

namespace {

constexpr size_t kMaxReason = 4096;  // of what the process says of a refusal

std::unexpected<ProxyChannel::TlsFailure> Failure(int error, std::string text, bool down) {
  return std::unexpected(ProxyChannel::TlsFailure{{error, std::move(text), false}, down});
}

}  // namespace

void ProxyChannel::Open(UniqueFd socket) {
  Close();
  socket_ = std::move(socket);
}

void ProxyChannel::Open(ProxyStream stream) {
  Close();
  socket_ = std::move(stream.fd);
  tls_ = std::move(stream.tls);
  in_process_ = stream.in_tls_process;
}

void ProxyChannel::Close() {
  tls_.reset();
  socket_.Reset();
  tcp_.Reset();
  in_process_ = false;
}

ProxyChannel::TlsResult ProxyChannel::StartTls(std::string peer, std::string ca_file,
                                               TlsProcess* process) {
  peer_ = std::move(peer);
  ca_file_ = std::move(ca_file);
  if (process != nullptr) {
    if (auto end = process->Give(socket_.get(), peer_, ca_file_)) {
      tcp_ = std::move(socket_);
      socket_ = std::move(*end);
      in_process_ = true;
      return HearProcess();
    }
  }
  return StartHere();
}

ProxyChannel::TlsResult ProxyChannel::ContinueTls() {
  return in_process_ ? HearProcess() : Encrypt();
}

ProxyChannel::TlsResult ProxyChannel::HearProcess() {
  TlsWord word{};
  const ssize_t got = recv(socket_.get(), &word, sizeof word, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    return Tls::kWaits;
  }
  if (got != 1) {
    return Failure(ECONNRESET, "TLS: the process that speaks it has ended", false);
  }
  switch (word) {
    case TlsWord::kReady:
      tcp_.Reset();
      return Tls::kEstablished;
    case TlsWord::kYours:
      socket_ = std::move(tcp_);
      in_process_ = false;
      return StartHere();
    case TlsWord::kRefused:
    case TlsWord::kEnded:
      break;
  }
  int32_t error = EPROTO;
  std::array<char, kMaxReason> buffer;
  const ssize_t size = recv(socket_.get(), buffer.data(), buffer.size(), 0);
  std::string_view why(buffer.data(), size > 0 ? static_cast<size_t>(size) : 0);
  if (why.size() >= sizeof error) {
    memcpy(&error, why.data(), sizeof error);
    why.remove_prefix(sizeof error);
  }
  return Failure(FittingErrno(error), std::string(why), true);
}

ProxyChannel::TlsResult ProxyChannel::StartHere() {
  auto context = contexts_.Get(ca_file_);
  if (!context) {
    return Failure(EACCES, "TLS: " + context.error().what, true);
  }
  auto tls = TlsStream::Start(std::move(*context), socket_.get(), peer_);
  if (!tls) {
    return Failure(EACCES, tls.error().what, true);
  }
  tls_ = std::move(*tls);
  return Encrypt();
}

ProxyChannel::TlsResult ProxyChannel::Encrypt() {
  if (tls_->Handshake() == 0) {
    return Tls::kEstablished;
  }
  if (errno == EAGAIN) {
    return Tls::kWaits;
  }
  return Failure(FittingErrno(errno), tls_->problem(), true);
}

ssize_t ProxyChannel::Put(std::string_view bytes) {
  return tls_ ? tls_->Write(bytes.data(), bytes.size())
              : send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

ssize_t ProxyChannel::Get(char* data, size_t size, bool peek) {
  if (tls_) {
    return peek ? tls_->Peek(data, size) : tls_->Read(data, size);
  }
  return recv(socket_.get(), data, size, peek ? MSG_PEEK : 0);
}

std::string ProxyChannel::Problem(int error) const {
  return tls_ ? tls_->problem() : std::generic_category().message(error);
}

void ProxyChannel::Release(ProxyStream& stream) {
  stream.fd = std::move(socket_);
  stream.tls = std::move(tls_);
  stream.in_tls_process = in_process_;
}

}  // namespace oakum::agent
