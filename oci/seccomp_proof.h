// The last word on a merge: what libseccomp really makes of the section before and after it.
#ifndef OAKUM_OCI_SECCOMP_PROOF_H_
#define OAKUM_OCI_SECCOMP_PROOF_H_

#include <span>

#include "base/error.h"
#include "oci/seccomp_planned.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

// Builds programs from the rules that both sections have for the system calls of `plan` whose
// arguments count or that are notified (and a few others, which stand for the rest), runs them on
// calls of every architecture and compares: what `before` denied must be denied with the same
// action and errno, what it allowed must be what `plan` says. The arguments tried are those at
// which some comparison of the system call's rules changes; beyond a number of combinations, a
// sample. libseccomp has defects that only show here: up to 2.6.0 it merges some 64-bit comparisons
// wrongly (GHSA-4q85-33p6-j5g6), and a filter whose first rule is for a system call that an
// architecture does not have may ignore all rules for that architecture. Errors: EINVAL with the
// system call that came out differently.
// `absent`: architectures that were left out, all of whose calls must end their thread.
[[nodiscard]] Expected<void> ProveMerge(const SeccompSection& before, const SeccompSection& after,
                                        const CheckedPlan& plan,
                                        std::span<const SeccompArch* const> absent = {});

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_PROOF_H_
