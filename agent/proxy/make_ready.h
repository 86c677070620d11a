// Greets a proxy for the next connection.
#ifndef OAKUM_AGENT_PROXY_MAKE_READY_H_
#define OAKUM_AGENT_PROXY_MAKE_READY_H_

#include <memory>

#include "agent/proxy/carrier.h"
#include "agent/proxy/dial.h"
#include "agent/proxy/worker.h"

namespace oakum::agent {

// Puts a connection among the container's ReadyProxies, as their Note has asked for; takes a slot
// of its own while it is there. Only on the worker's thread. What goes wrong is not
// said: the next dial will say it.
void MakeReady(Worker& worker, std::shared_ptr<ContainerCarrier> container, DialRequest request);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_MAKE_READY_H_
