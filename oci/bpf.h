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

// How far a program has come.
struct BpfState {
  size_t at = 0;  // the instruction that is next
  uint32_t accumulator = 0;
};

// The value that `program` returns for `data`; nothing when it does what the kernel's checker
// refuses (an unknown instruction, a load or jump outside, the end without a return). `from`: where
// it goes on.
[[nodiscard]] std::optional<uint32_t> RunBpf(const BpfProgram& program, const seccomp_data& data,
                                             BpfState from = {});

// Where `program` is when it is about to load something of the arguments for the first time, or to
// return before that: until there it does the same for all calls of this number and architecture
// from this place.
[[nodiscard]] BpfState RunBpfToArguments(const BpfProgram& program, const seccomp_data& data);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_BPF_H_
