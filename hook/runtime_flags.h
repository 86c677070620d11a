// Which filter flags the real runtime takes, without asking it at every container's start.
#ifndef OAKUM_HOOK_RUNTIME_FLAGS_H_
#define OAKUM_HOOK_RUNTIME_FLAGS_H_

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy/config.h"

namespace oakum::hook {

using ProgramRunner = std::function<Expected<std::string>(const std::vector<std::string>& command)>;

// Whether the runtime at `path` takes SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, as it says itself.
// False where it does not say.
[[nodiscard]] bool AskForWaitKillable(const std::string& path, const ProgramRunner& run);

// The same, from `cache` if the answer of exactly this file is there (device, inode, size, times of
// change), else asked for and written there. The cache is believed only where it is a file of this
// process's user that nobody else can write to; where it cannot be written, each start asks.
[[nodiscard]] bool TakesWaitKillable(const std::string& path, const std::string& cache,
                                     const ProgramRunner& run);

// The flags for a filter that the runtime at `path` is going to load. `path` empty: that is not
// known (podman's hook), and only "on" has it.
[[nodiscard]] std::vector<std::string> FilterFlags(const policy::Config& config,
                                                   const std::string& path);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_RUNTIME_FLAGS_H_
