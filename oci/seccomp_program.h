// What libseccomp makes of a section.
#ifndef OAKUM_OCI_SECCOMP_PROGRAM_H_
#define OAKUM_OCI_SECCOMP_PROGRAM_H_

#include <vector>

#include "base/error.h"
#include "oci/bpf.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

// Every architecture of the section and the native one, which libseccomp always adds.
[[nodiscard]] std::vector<const SeccompArch*> ArchsOf(const SeccompSection& section);

// The BPF program of the section, built through libseccomp as runc and crun do. Errors: EINVAL when
// libseccomp does not take a rule.
[[nodiscard]] Expected<BpfProgram> ToBpf(const SeccompSection& section);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_PROGRAM_H_
