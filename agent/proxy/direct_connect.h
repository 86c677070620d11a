// The container's own socket, connected to the proxy: afterwards nothing of ours is on the data's
// way.
#ifndef OAKUM_AGENT_PROXY_DIRECT_CONNECT_H_
#define OAKUM_AGENT_PROXY_DIRECT_CONNECT_H_

#include <functional>
#include <memory>
#include <optional>

#include "agent/calls/operation.h"
#include "agent/proxy/dial.h"
#include "agent/proxy/upstreams.h"
#include "base/unique_fd.h"

namespace oakum::agent {

class DirectRegistry;

// Has a job run on a thread that its owner, a container, may hold up; false: there is none.
using RunAside = std::function<bool(const void* owner, std::function<void()> job)>;

// What a connect(2) that goes through a proxy this way is made of.
struct DirectRequest {
  const void* owner = nullptr;       // who has to wait for what its socket makes wait
  std::shared_ptr<const void> keep;  // keeps `proxy` alive
  const policy::Proxy* proxy = nullptr;
  ProxyTarget target;
  std::optional<Credentials> credentials;  // from Isolator
  // Called once when it is over, before the caller is told: with the failure, or with nothing when
  // the socket leads to the target. On whichever thread brought it to its end; must not call back.
  std::function<void(const std::optional<ProxyFailure>&)> ended;
};

// What became of an attempt to begin.
struct DirectStart {
  // One of the three is set, or `fallback`:
  std::optional<int> error;              // the answer: an errno value; nothing was carried
  std::unique_ptr<Operation> operation;  // under way; it answers
  // The socket cannot reach the first URL (no route, or not its address family): nothing has
  // happened to it, `ended` was not called, and `socket` and `request` are given back.
  bool fallback = false;
  UniqueFd socket;
  DirectRequest request;
};

// The sockets of all containers that a handshake is being spoken on, by cookie (socket(7),
// SO_COOKIE). Thread-safe; costs one atomic load where there are none.
class DirectConnects {
 public:
  // `run_aside` is for handshakes that their callers have left; where there is nobody for one, its
  // socket is reset. `upstreams` outlives the reactor's operations too.
  DirectConnects(Upstreams& upstreams, RunAside run_aside);
  ~DirectConnects();  // Close()
  DirectConnects(const DirectConnects&) = delete;
  DirectConnects& operator=(const DirectConnects&) = delete;

  // Nothing is run aside any more, and what runs ends soon.
  void Close();

  // Whether a handshake is being spoken on that socket: any connect(2) on it that does not come to
  // Begin, also one with AF_UNSPEC, has to find EALREADY, or a thread of the container could move
  // the socket under the handshake.
  [[nodiscard]] bool Busy(int socket_fd) const;

  // Starts; or joins where the target is the same (a call that was interrupted and is made again,
  // or another thread that waits for the same connection, connect(2)); or says EALREADY. `socket`
  // is a blocking TCP socket of the container's, in `domain`; never waits. Only where
  // CanConnectDirectly. While it lasts other threads of the container can write to the socket, and
  // so speak to the proxy: the policy must let them.
  [[nodiscard]] DirectStart Begin(UniqueFd socket, int domain, DirectRequest request,
                                  UringCalls& uring);

 private:
  const std::shared_ptr<DirectRegistry> registry_;
};

// Whether a blocking TCP socket may be connected to that proxy as above: all URLs are plain TCP at
// IP addresses that are reached from the container's network namespace (`same_netns`: it is the
// agent's), and no secret would be spoken on a socket that the container holds, in a network
// namespace that it may own: credentials of the URL that isolating ones do not replace.
[[nodiscard]] bool CanConnectDirectly(const policy::Proxy& proxy, bool same_netns);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_DIRECT_CONNECT_H_
