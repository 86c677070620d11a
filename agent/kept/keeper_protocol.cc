#include "agent/kept/keeper_protocol.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "agent/server/send_descriptors.h"
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

Expected<std::string> EncodeKeeperMessage(KeeperWord word, std::string_view name) {
  if (name.size() >= kMaxKeptName) {
    return MakeError(ENAMETOOLONG, "too long a name for a message to the keeper");
  }
  if (name.contains('\0')) {
    return MakeError(EINVAL, "a name for the keeper that would end before its end");
  }
  Wire wire = {.version = kKeeperVersion, .word = static_cast<uint32_t>(word), .name = {}};
  std::copy(name.begin(), name.end(), wire.name.begin());
  return std::string(reinterpret_cast<const char*>(&wire), sizeof wire);
}

Expected<KeeperMessage> DecodeKeeperMessage(std::string_view bytes) {
  Wire wire = {};
  if (bytes.size() < offsetof(Wire, name)) {
    return MakeError(EPROTO, "a message that no agent or keeper sends");
  }
  memcpy(&wire, bytes.data(), std::min(bytes.size(), sizeof wire));
  KeeperMessage message;
  message.version = wire.version;
  message.word = static_cast<KeeperWord>(wire.word);
  message.name.assign(wire.name.data(), strnlen(wire.name.data(), wire.name.size()));
  return message;
}

Expected<void> SendToPeer(int socket_fd, KeeperWord word, std::string_view name,
                          std::span<const int> fds, int flags) {
  if (fds.size() > kMaxKeptFds) {
    return MakeError(ENAMETOOLONG, "too many descriptors for a message to the keeper");
  }
  auto bytes = EncodeKeeperMessage(word, name);
  if (!bytes) {
    return std::unexpected(std::move(bytes.error()));
  }
  return SendWithDescriptors(socket_fd, *bytes, fds, flags);
}

Expected<std::optional<KeeperMessage>> ReceiveFromPeer(int socket_fd) {
  std::array<char, sizeof(Wire)> bytes;
  auto received = ReceiveMessage(socket_fd, bytes);
  if (!received) {
    return std::unexpected(std::move(received.error()));
  }
  if (received->bytes == 0) {
    return std::nullopt;
  }
  auto message = DecodeKeeperMessage({bytes.data(), received->bytes});
  if (!message) {
    return std::unexpected(std::move(message.error()));
  }
  message->fds = std::move(received->fds);
  return message;
}

}  // namespace oakum::agent
