// getpeername(2): a socket that is carried is connected to a relay, a gate or a proxy, and has to
// say what its program asked for.
#include <cerrno>

#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"

namespace oakum::agent {

Outcome HandleGetpeername(const CallContext& context, const GuardedCall& call, Arguments args) {
  // Nothing is decided here, so whatever is not carried is the kernel's: errors and nulls too.
  PinnedSocket socket;
  if (args[1] == 0 || Pin(context, call.notification.tid, static_cast<int>(args[0]), socket) != 0 ||
      !socket.is_inet()) {
    return Outcome::Of(Answer::Continue());
  }
  const auto asked = context.carried()->peers().Find(socket.cookie);
  SockaddrCopy peer;
  peer.length = sizeof peer.storage;
  // ENOTCONN before and after the connection, as natively.
  if (!asked ||
      getpeername(socket.fd.get(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.length) != 0) {
    return Outcome::Of(Answer::Continue());
  }
  const PeerName name{WriteEndpoint(*asked, socket.domain), args[1], args[2]};
  const auto written = WritePeer(context.core, call, name);
  return Outcome::Of(written ? Answer::Performed(0, *written) : Answer::None());
}

}  // namespace oakum::agent
