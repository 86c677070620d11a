#include "agent/udp/udp_connect.h"

#include <cerrno>

namespace oakum::agent {

Outcome ConnectDatagrams(const CallContext& /*context*/, const GuardedCall& /*call*/,
                         CarriedConnect /*connect*/) {
  return Outcome::Of(Answer::Error(EACCES));
}

}  // namespace oakum::agent
