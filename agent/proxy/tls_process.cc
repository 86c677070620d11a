#include "agent/proxy/tls_process.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "agent/server/send_descriptors.h"

namespace oakum::agent {

Expected<void> TlsProcess::Begin() {
  std::array<int, 2> ends = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return ErrnoError("socketpair");
  }
  UniqueFd own(ends[0]);
  const UniqueFd its(ends[1]);
  if (auto started = start_(its.get()); !started) {
    return started;
  }
  line_ = std::move(own);
  return {};
}

Expected<UniqueFd> TlsProcess::Give(int socket_fd, const std::string& peer,
                                    const std::string& ca_file) {
  std::string request = peer;
  request.push_back('\0');
  request += ca_file;
  if (request.size() > kMaxRequest || request.find('\0') != peer.size()) {
    return MakeError(ENAMETOOLONG, "TLS: no such name");
  }
  std::array<int, 2> ends = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    return ErrnoError("socketpair");
  }
  UniqueFd own(ends[0]);
  const UniqueFd its(ends[1]);
  const std::array<int, 2> fds = {socket_fd, its.get()};
  const std::lock_guard lock(mutex_);
  for (bool again = false;; again = true) {
    if (!line_) {
      if (auto begun = Begin(); !begun) {
        return std::unexpected(std::move(begun.error()));
      }
    }
    auto sent = SendWithDescriptors(line_.get(), request, fds, MSG_DONTWAIT);
    if (sent) {
      return own;
    }
    const int error = sent.error().code;
    if (again || (error != EPIPE && error != ECONNRESET)) {
      return std::unexpected(std::move(sent.error()));
    }
    line_.Reset();  // that one is gone
  }
}

Expected<void> HandOverToTls(int pair_fd, int near_fd) {
  const std::array<int, 2> fds = {near_fd, pair_fd};
  return SendWithDescriptors(pair_fd, std::string_view("r"), fds, MSG_DONTWAIT);
}

}  // namespace oakum::agent
