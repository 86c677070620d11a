#include "agent/session/relay_doubles.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "agent/caller/socket_kinds.h"
#include "agent/proxy/kept_names.h"
#include "agent/proxy/tcp_socket.h"

namespace oakum::agent {

namespace {

bool IsConnected(const std::vector<UniqueFd>& fds, uint64_t near) {
  return std::ranges::any_of(fds, [near](const UniqueFd& fd) {
    const auto state = TcpState(fd.get());
    return state && *state != TCP_CLOSE && *state != TCP_SYN_SENT && *state != TCP_SYN_RECV &&
           SocketCookie(fd.get()) == near;
  });
}

}  // namespace

void DropDoubles(std::vector<KeptItem>& items, KeptRelays& kept) {
  std::map<std::pair<uint64_t, uint64_t>, KeptItem*> held;  // by session and socket
  for (KeptItem& item : items) {
    if (const auto identity = DecodeHeldName(item.name); identity) {
      held[{identity->session, identity->client}] = &item;
    }
  }
  for (KeptItem& item : items) {
    const auto identity = held.empty() ? std::nullopt : DecodeRelayName(item.name);
    const auto other = identity ? held.find({identity->session, identity->client}) : held.end();
    if (other != held.end()) {
      KeptItem& gone = IsConnected(item.fds, identity->near) ? *other->second : item;
      kept.Forget(gone.name);
      gone = KeptItem();
    }
  }
}

}  // namespace oakum::agent
