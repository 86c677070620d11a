// What the next agent has to know of a connection that is kept, besides its descriptors.
#ifndef OAKUM_AGENT_PROXY_KEPT_NAMES_H_
#define OAKUM_AGENT_PROXY_KEPT_NAMES_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy/address.h"

namespace oakum::agent {

// Each of these is the name of the descriptors: kKeptRelayPrefix and base64. How far a connection
// has come is told by its sockets and pipes themselves, and so is never out of date.

struct RelayIdentity {
  uint64_t session = 0;    // what the name of its session has behind kKeptSessionPrefix
  uint64_t near = 0;       // SO_COOKIE of the agent's end of the container's connection
  uint64_t client = 0;     // of the container's end
  policy::Endpoint asked;  // what getpeername(2) says there
};

// One that waits for its proxy: the container's socket is in SYN_SENT.
struct HeldIdentity {
  uint64_t session = 0;
  uint64_t client = 0;
  pid_t tgid = 0;  // whose descriptor `number` that is
  int number = -1;
  policy::Endpoint asked;
};

// A gate that a datagram socket of the container's is connected to.
struct GateIdentity {
  uint64_t session = 0;
  uint64_t gate = 0;             // SO_COOKIE of the agent's socket
  policy::Endpoint destination;  // what it stands for
  bool resolver = false;         // whether what comes there is a question for a name
};

// 0 where it is none.
[[nodiscard]] uint64_t SessionOfName(std::string_view session_name);

// Empty where a cookie has more than 56 bits, or the session has no name.
[[nodiscard]] std::string EncodeRelayName(const RelayIdentity& identity);
[[nodiscard]] std::optional<RelayIdentity> DecodeRelayName(std::string_view name);
[[nodiscard]] std::string EncodeHeldName(const HeldIdentity& identity);
[[nodiscard]] std::optional<HeldIdentity> DecodeHeldName(std::string_view name);
[[nodiscard]] std::string EncodeGateName(const GateIdentity& identity);
[[nodiscard]] std::optional<GateIdentity> DecodeGateName(std::string_view name);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_KEPT_NAMES_H_
