// DNS over TCP (RFC 7766), answered in the place of the server that was asked.
#ifndef OAKUM_AGENT_DNS_STREAM_SERVICE_H_
#define OAKUM_AGENT_DNS_STREAM_SERVICE_H_

#include <memory>

#include "agent/event.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/worker.h"
#include "base/unique_fd.h"
#include "policy/policy.h"

namespace oakum::agent {

// A connection of the container's to port 53 that ends here.
struct DnsStream {
  UniqueFd fd;  // non-blocking, connected to the container's socket
  std::shared_ptr<ContainerCarrier> container;
  std::shared_ptr<const policy::Policy> policy;
  policy::Endpoint server;                               // that the program asked for
  policy::Verdict verdict = policy::Verdict::kRedirect;  // kAllow: forwarded and watched
  std::shared_ptr<const EventSource> source;             // for events
};

// Serves it on `worker`, whose thread this is called on, until either side ends.
void ServeDnsStream(Worker& worker, DnsStream stream);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_DNS_STREAM_SERVICE_H_
