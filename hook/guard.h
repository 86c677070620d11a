// What both programs do: find a container's policy and put its filter into the config.json.
#ifndef OAKUM_HOOK_GUARD_H_
#define OAKUM_HOOK_GUARD_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "hook/facts.h"
#include "hook/merge_cache.h"
#include "policy/policy_set.h"

namespace oakum::hook {

// The longest config.json that is taken.
inline constexpr size_t kMaxConfigJson = size_t{16} << 20;

// Returns `config_json` with the filter that the container's policy needs and with `socket` as its
// listener. Errors: EINVAL for a malformed config.json, ENOENT when no policy is found for the
// container, EBUSY when somebody else listens already; and those of
// oci::ConfigDocument::MergeSeccomp. `cache`: what was merged before, or nullptr. `absent_archs`:
// of this machine (oci::AbsentArchs).
[[nodiscard]] Expected<std::string> GuardConfig(std::string_view config_json, const Origin& origin,
                                                const policy::PolicySet& policies,
                                                const std::string& socket,
                                                std::vector<std::string> filter_flags = {},
                                                const MergeCache* cache = nullptr,
                                                std::vector<std::string> absent_archs = {});

// Where merges are kept by programs whose agent is at `socket`.
[[nodiscard]] MergeCache CacheBeside(const std::string& socket);

// Whether an agent listens at `socket`: the runtime's own attempt comes late and its message does
// not say whose socket that is. It is to be root's or this process's user's, where nobody else can
// put another. Errors: EPERM; connect(2)'s, with what to do.
[[nodiscard]] Expected<void> CheckAgent(const std::string& socket);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_GUARD_H_
