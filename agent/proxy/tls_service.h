// What the process does that speaks TLS with proxies (agent/proxy/tls_process.h).
#ifndef OAKUM_AGENT_PROXY_TLS_SERVICE_H_
#define OAKUM_AGENT_PROXY_TLS_SERVICE_H_

#include <cstddef>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Serves the connections that come on this line, on at most four threads, until the agent has ended
// and with it the last of them. To be called once, with one thread and no privileges
// (GiveUpPrivileges()); refuses itself more system calls: it makes no socket, ends no process and
// looks into none. Has `max` connections at a time at most. Errors: those of making threads and of
// seccomp(2).
[[nodiscard]] Expected<void> RunTlsProcess(UniqueFd line, size_t max);

// A sixteenth of RLIMIT_NOFILE (getrlimit(2)), 32,768 at most: each is up to five descriptors.
[[nodiscard]] size_t MaxTlsConnections();

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_TLS_SERVICE_H_
