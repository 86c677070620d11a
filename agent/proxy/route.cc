#include "agent/proxy/route.h"

#include <sys/socket.h>

#include <cerrno>

#include "agent/caller/netns.h"
#include "agent/caller/sockaddr.h"
#include "base/shortage.h"
#include "base/unique_fd.h"

namespace oakum::agent {

namespace {

// 0 where there is one, else an errno value.
int Look(const policy::Endpoint& endpoint, int net_fd) {
  int error = 0;
  const auto entered = WithNetwork(net_fd, [&] {
    const int domain = endpoint.ip.IsV4() ? AF_INET : AF_INET6;
    const UniqueFd probe(socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const SockaddrCopy address = WriteEndpoint(endpoint, domain);
    const bool reached = probe && connect(probe.get(), address.get(), address.length) == 0;
    error = reached ? 0 : errno;
  });
  return entered ? error : entered.error().code;
}

Route Of(int error) {
  const bool unknown = IsShortage(error) || error == ENOMEM || error == ENOBUFS;
  return error == 0 ? Route::kThere : unknown ? Route::kUnknown : Route::kNone;
}

}  // namespace

Route RouteTo(const policy::Endpoint& endpoint, int net_fd) { return Of(Look(endpoint, net_fd)); }

Route RouteOnceThereIsRoom(const policy::Endpoint& endpoint, int net_fd) {
  ShortageWait room;
  int error = Look(endpoint, net_fd);
  while (error != 0 && room.Again(error)) {
    error = Look(endpoint, net_fd);
  }
  return Of(error);
}

}  // namespace oakum::agent
