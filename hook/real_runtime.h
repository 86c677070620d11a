// The OCI runtime behind oakum-runtime.
#ifndef OAKUM_HOOK_REAL_RUNTIME_H_
#define OAKUM_HOOK_REAL_RUNTIME_H_

#include <sys/stat.h>

#include <string>

#include "base/error.h"

namespace oakum::hook {

// Path of the runtime that `configured` names: an absolute path, or a name that is looked for where
// distributions put runtimes (engines give their runtime little or no PATH). `self` is our own
// program: it is passed over, so that a link called runc that leads back here makes no loop.
// Errors: ENOENT when there is none, ELOOP when the absolute path is ourselves, EACCES when it is
// not an executable file.
[[nodiscard]] Expected<std::string> FindRuntime(const std::string& configured,
                                                const struct stat& self);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_REAL_RUNTIME_H_
