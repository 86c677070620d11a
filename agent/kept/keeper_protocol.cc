#include "agent/kept/keeper_protocol.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/server/unix_socket.h"

namespace oakum::agent {

namespace {

struct Wire {
  uint32_t version;
  uint32_t word;
  std::array<char, kMaxKeptName> name;  // up to the first 0
};

}  // namespace

std::string KeeperPath(const std::string& agent_socket) { return agent_socket + ".keeper"; }

Expected<void> SendToPeer(int socket_fd, KeeperWord word, std::string_view name,
                          std::span<const int> fds, int flags) {
  if (name.size() >= kMaxKeptName || fds.size() > kMaxKeptFds) {
    return MakeError(ENAMETOOLONG, "too much for one message to the keeper");
  }
  Wire wire = {.version = kKeeperVersion, .word = static_cast<uint32_t>(word), .name = {}};
  std::copy(name.begin(), name.end(), wire.name.begin());
  iovec data = {&wire, sizeof wire};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxKeptFds)> control = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  if (sendmsg(socket_fd, &message, flags | MSG_NOSIGNAL) < 0) {
    return ErrnoError("sendmsg");
  }
  return {};
}

Expected<std::optional<KeeperMessage>> ReceiveFromPeer(int socket_fd) {
  Wire wire = {};
  auto received = ReceiveMessage(socket_fd, std::span(reinterpret_cast<char*>(&wire), sizeof wire));
  if (!received) {
    return std::unexpected(std::move(received.error()));
  }
  if (received->bytes == 0) {
    return std::nullopt;
  }
  if (received->bytes < offsetof(Wire, name)) {
    return MakeError(EPROTO, "a message that no agent or keeper sends");
  }
  KeeperMessage message;
  message.version = wire.version;
  message.word = static_cast<KeeperWord>(wire.word);
  message.name.assign(wire.name.data(), strnlen(wire.name.data(), wire.name.size()));
  message.fds = std::move(received->fds);
  return message;
}

}  // namespace oakum::agent
