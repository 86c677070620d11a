#include "agent/proxy/carried_connect.h"

#include <cerrno>
#include <utility>

#include "agent/udp/udp_connect.h"

namespace oakum::agent {

Outcome ConnectCarried(const CallContext& context, const GuardedCall& call,
                       CarriedConnect connect) {
  if (!connect.socket.is_stream()) {
    return ConnectDatagrams(context, call, std::move(connect));
  }
  return Outcome::Of(Answer::Error(EACCES));
}

}  // namespace oakum::agent
