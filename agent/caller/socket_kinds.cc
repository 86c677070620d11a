#include "agent/caller/socket_kinds.h"

#include <sys/socket.h>

#include <cerrno>

namespace oakum::agent {

namespace {

bool GetOption(int socket_fd, int option, int& out) {
  socklen_t length = sizeof out;
  return getsockopt(socket_fd, SOL_SOCKET, option, &out, &length) == 0;
}

}  // namespace

uint64_t SocketCookie(int socket_fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (socket_fd < 0 || getsockopt(socket_fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) {
    return 0;
  }
  return cookie;
}

int SocketKinds::Read(int socket_fd, SocketKind& kind, uint64_t& cookie, KindReader* at_once) {
  socklen_t length = sizeof cookie;
  if (getsockopt(socket_fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) {
    return errno;
  }
  Place& place = places_[cookie % kPlaces];
  if (place.cookie == cookie && cookie != 0) {
    if (place.kind.domain == AF_INET6 && !GetOption(socket_fd, SO_DOMAIN, place.kind.domain)) {
      return errno;
    }
    kind = place.kind;
    return 0;
  }
  if (const auto asked = at_once != nullptr ? at_once->ReadKind(socket_fd) : std::nullopt; asked) {
    kind = *asked;
  } else if (!GetOption(socket_fd, SO_DOMAIN, kind.domain) ||
             !GetOption(socket_fd, SO_TYPE, kind.type) ||
             !GetOption(socket_fd, SO_PROTOCOL, kind.protocol)) {
    return errno;
  }
  place = {cookie, kind};
  return 0;
}

}  // namespace oakum::agent
