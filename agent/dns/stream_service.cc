#include "agent/dns/stream_service.h"

namespace oakum::agent {

void ServeDnsStream(Worker& /*worker*/, DnsStream /*stream*/) {}

}  // namespace oakum::agent
