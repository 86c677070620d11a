// Sockets that a container's process was started with.
#ifndef OAKUM_AGENT_CALLS_INHERITED_SOCKETS_H_
#define OAKUM_AGENT_CALLS_INHERITED_SOCKETS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/request.h"

namespace oakum::agent {

struct InheritedSocket {
  int number = -1;  // of the descriptor
  int domain = 0;   // SO_DOMAIN
  int type = 0;     // SO_TYPE
  int protocol = 0;
  bool listening = false;
  bool connected = false;
  policy::Endpoint local;  // internet sockets
  policy::Endpoint peer;
  std::string unix_local;  // path or "@name"; empty for none
  std::string unix_peer;

  [[nodiscard]] bool is_inet() const;
  [[nodiscard]] bool has_name() const { return !unix_local.empty() || !unix_peer.empty(); }
  [[nodiscard]] policy::Transport transport() const;
};

// Looks at process `pid`, which a runtime has prepared and which is about to execute the
// container's program: the sockets that it keeps then (not close-on-exec), but for unix sockets
// without a name at either end. Where its program runs already, those that it cannot have made
// itself in the meantime.
[[nodiscard]] std::vector<InheritedSocket> FindInheritedSockets(pid_t pid);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_INHERITED_SOCKETS_H_
