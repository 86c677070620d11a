// Where sockets that are carried lead, as their programs asked for it.
#ifndef OAKUM_AGENT_PROXY_PEERS_H_
#define OAKUM_AGENT_PROXY_PEERS_H_

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "policy/address.h"

namespace oakum::agent {

// Of one container: what getpeername(2) says of a socket whose connection really ends at a proxy,
// at a relay or at a gate. Sockets are known by their cookies (SocketCookie()), which no other
// socket ever has. Thread-safe.
class Peers {
 public:
  // A second connect(2) of the socket takes the place of the first.
  void Remember(uint64_t cookie, const policy::Endpoint& asked_for);
  void Forget(uint64_t cookie);
  [[nodiscard]] std::optional<policy::Endpoint> Find(uint64_t cookie);

 private:
  struct Entry {
    uint64_t cookie;
    policy::Endpoint asked_for;
  };
  // The one used longest ago goes: its socket then shows where it really ends.
  static constexpr size_t kMaxEntries = 65536;

  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last first
  std::unordered_map<uint64_t, std::list<Entry>::iterator> by_cookie_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PEERS_H_
