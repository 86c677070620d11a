// A classic BPF interpreter for seccomp programs, as the kernel checks and runs them.
#ifndef OAKUM_OCI_BPF_H_
#define OAKUM_OCI_BPF_H_

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace oakum::oci {

using BpfProgram = std::vector<sock_filter>;

// The value that `program` returns for `data`; nothing when it does what the kernel's checker
// refuses (an unknown instruction, a load or jump outside, the end without a return).
[[nodiscard]] std::optional<uint32_t> RunBpf(const BpfProgram& program, const seccomp_data& data);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_BPF_H_
