// The process that speaks TLS with proxies for a guard of `oakum run`.
#ifndef OAKUM_CLI_RUN_TLS_H_
#define OAKUM_CLI_RUN_TLS_H_

#include <sys/types.h>

#include "base/unique_fd.h"

namespace oakum::cli {

// Forks, as long as there is one thread: the child serves this line (agent/proxy/tls_service.h) in
// a session of its own, with no other descriptor, no privileges and no streams. Returns its process
// id, or -1 with errno.
[[nodiscard]] pid_t StartTls(UniqueFd line);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_RUN_TLS_H_
