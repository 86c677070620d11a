// Turns a `linux.seccomp` section into a BPF program the way the runtimes do, through libseccomp.
#ifndef OAKUM_TEST_UNIT_OCI_RUNTIME_FILTER_H_
#define OAKUM_TEST_UNIT_OCI_RUNTIME_FILTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "oci/bpf.h"
#include "oci/json.h"

namespace oakum::oci {

enum class RuntimeKind : uint8_t {
  kRunc,        // 1.1
  kRuncSorted,  // 1.2 and later: libseccomp's binary tree for more than 32 rules
  kCrun,        // 1.8
};

// Errors: what the runtime would refuse the container for.
[[nodiscard]] Expected<BpfProgram> BuildFilter(const Json& section, RuntimeKind kind);

// The largest system call number of `arch` (SCMP_ARCH_*) that the section names: above it runc
// answers ENOSYS (its "patchbpf"), so a merge must not lower it.
[[nodiscard]] int LargestNamed(const Json& section, uint32_t arch);

}  // namespace oakum::oci

#endif  // OAKUM_TEST_UNIT_OCI_RUNTIME_FILTER_H_
