// Which container a config.json is for, from what its engine wrote. docs/matching.md says what each
// engine tells and who can forge it.
#ifndef OAKUM_HOOK_FACTS_H_
#define OAKUM_HOOK_FACTS_H_

#include <cstdint>
#include <string>

#include "oci/config.h"
#include "policy/container.h"

namespace oakum::hook {

// How the config.json came to us. A container's author has no say in either.
struct Origin {
  std::string bundle;        // absolute path without symbolic links; empty: podman's precreate hook
  std::string container_id;  // from the runtime's command line; empty with `bundle`
};

enum class Engine : uint8_t {
  kNone,           // runc or crun called by hand, or an engine that we do not know
  kPodman,         // also as a precreate hook: no other engine has that stage
  kDocker,         // containerd's namespace "moby"
  kContainerdCri,  // containerd's namespace "k8s.io": Kubernetes
  kContainerd,     // any other namespace: ctr, nerdctl
  kCrio
};

// Told by the shape of the bundle's path, which the engine chooses, and for CRI-O beside podman
// (both keep bundles in containers/storage) by the cgroup's name; never by annotations alone, since
// `podman run --annotation` and the annotations of an image can say anything.
[[nodiscard]] Engine DetectEngine(const oci::ConfigFacts& config, const Origin& origin);

// Facts from the config.json and, with podman and Docker, the engine's own record of the container.
// What the engine knows but we could not learn is named in ContainerFacts::unknown.
[[nodiscard]] policy::ContainerFacts ReadFacts(const oci::ConfigFacts& config,
                                               const Origin& origin);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_FACTS_H_
