// Where descriptors stay that must outlive the agent.
#ifndef OAKUM_AGENT_KEPT_FD_STORE_H_
#define OAKUM_AGENT_KEPT_FD_STORE_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// The name of a session's descriptors: this, and 16 hexadecimal digits of chance.
inline constexpr char kKeptSessionPrefix[] = "session-";
// That of a connection's through a proxy (agent/proxy/kept_relays.h).
inline constexpr char kKeptRelayPrefix[] = "relay-";
inline constexpr size_t kMaxKeptName = 64;
// A listener, a journal, the pidfd of the container's first process, its root, and what names it
// was told; or a listener, two sockets and two pipes.
inline constexpr size_t kMaxKeptFds = 5;

struct KeptItem {
  std::string name;
  std::vector<UniqueFd> fds;  // in no certain order
};

// Thread-safe; nothing here waits for the other side for more than a tenth of a second.
class FdStore {
 public:
  virtual ~FdStore() = default;
  // Once it returns, copies of `fds` are there for the next agent, whatever becomes of this one.
  // At most kMaxKeptFds, a seccomp listener first. Errors: those of sendmsg(2).
  [[nodiscard]] virtual Expected<void> Keep(const std::string& name, std::span<const int> fds) = 0;
  // The same, without waiting at all. Errors: EAGAIN, too.
  [[nodiscard]] virtual Expected<void> TryKeep(const std::string& name, std::span<const int> fds) {
    return Keep(name, fds);
  }
  // Closes the copies: at once, or as soon as that can be said.
  virtual void Forget(const std::string& name) = 0;
  // Whether that is so cheap that a connection is kept from its first moment on, and not only once
  // it has lived for a while (Nursery).
  [[nodiscard]] virtual bool KeepsAtOnce() const { return false; }
  // Becomes readable (poll(2)) when whoever keeps is gone, and all that was kept; -1: never, or
  // somebody is missing (Renew()). Another one after Renew().
  [[nodiscard]] virtual int lost_fd() const { return -1; }
  // Whether whoever that is keeps connections and no sessions, and while it is missing they are
  // kept elsewhere, but for the youngest.
  [[nodiscard]] virtual bool loses_connections_only() const { return false; }
  // Then: finds somebody else, who keeps nothing yet. Waits for it, for a bounded time.
  [[nodiscard]] virtual Expected<void> Renew() { return {}; }
};

// A store, and what was in it.
struct OpenedStore {
  std::unique_ptr<FdStore> store;
  std::vector<KeptItem> items;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_FD_STORE_H_
