// Merging a plan into the `linux.seccomp` section of a config.json.
#ifndef OAKUM_OCI_SECCOMP_MERGE_H_
#define OAKUM_OCI_SECCOMP_MERGE_H_

#include <string>

#include "base/error.h"
#include "oci/json.h"
#include "oci/seccomp_plan.h"

namespace oakum::oci {

struct ListenerConfig {
  std::string path;      // absolute path of the agent's socket: `listenerPath`
  std::string metadata;  // opaque to the runtime: `listenerMetadata`
  // Filter flags to add (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV): only those the runtime is known
  // to take; runc <= 1.1 refuses any.
  std::vector<std::string> flags;
  // Architectures that the machine's kernel has no system calls of (oci::AbsentArchs): left out of
  // the section. libseccomp builds rules for each that is named, a third of a filter's time.
  std::vector<std::string> absent_archs = {};
};

// Returns the section that enforces `plan` on top of `section` (the engine's own; a null or empty
// value when there is none: then everything else is allowed, for the native architecture and its
// compatible ones, since libseccomp kills calls of architectures that a filter does not name).
// Never weaker: what `section` denied stays denied with the same errno; only what it allowed
// becomes what the plan says, but for calls of `absent_archs`, which end the thread that makes them
// (SCMP_ACT_KILL, libseccomp's action for what a filter does not name). Keys that the merge does
// not know are kept. Errors: EBUSY when the
// section already has a different listenerPath; EINVAL when it is malformed or its rules cannot be
// merged exactly (says which syscall and rule).
[[nodiscard]] Expected<Json> MergeSeccomp(Json section, const SeccompPlan& plan,
                                          const ListenerConfig& listener);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_MERGE_H_
