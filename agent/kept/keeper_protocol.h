// What an agent and its keeper say to each other, over unix sockets that keep messages apart
// (SOCK_SEQPACKET, unix(7)).
#ifndef OAKUM_AGENT_KEPT_KEEPER_PROTOCOL_H_
#define OAKUM_AGENT_KEPT_KEEPER_PROTOCOL_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/kept/fd_store.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// A keeper lives longer than the agent that has started it, so that each may be of another release.
inline constexpr uint32_t kKeeperVersion = 1;

enum class KeeperWord : uint32_t {
  kHello = 1,   // agent: the first message
  kKeep = 2,    // agent: a name and its descriptors
  kForget = 3,  // agent: a name
  kItem = 4,    // keeper: a name and its descriptors, one for each that is kept
  kReady = 5,   // keeper: these were all; the agent is the one that is served
  kBusy = 6,    // keeper: another agent is
};

struct KeeperMessage {
  uint32_t version = kKeeperVersion;
  KeeperWord word = KeeperWord::kHello;
  std::string name;
  std::vector<UniqueFd> fds;
};

// Where the keeper of an agent with this socket is.
[[nodiscard]] std::string KeeperPath(const std::string& agent_socket);

// What is sent, and what was received, without the descriptors. A message that is longer than this
// version's is read as far as that goes. Errors: ENAMETOOLONG, EINVAL for a name with a 0 in it;
// EPROTO for what is no message.
[[nodiscard]] Expected<std::string> EncodeKeeperMessage(KeeperWord word, std::string_view name);
[[nodiscard]] Expected<KeeperMessage> DecodeKeeperMessage(std::string_view bytes);

// One message. `flags`: MSG_DONTWAIT or 0. Errors: ENAMETOOLONG, EINVAL, sendmsg(2)'s.
[[nodiscard]] Expected<void> SendToPeer(int socket_fd, KeeperWord word, std::string_view name,
                                        std::span<const int> fds, int flags);
// Nothing at the end of the connection. Errors: EPROTO for what is no message, recvmsg(2)'s.
[[nodiscard]] Expected<std::optional<KeeperMessage>> ReceiveFromPeer(int socket_fd);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEEPER_PROTOCOL_H_
