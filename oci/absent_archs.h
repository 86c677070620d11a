// Architectures whose system calls are in every engine's profile and not in this machine's kernel.
#ifndef OAKUM_OCI_ABSENT_ARCHS_H_
#define OAKUM_OCI_ABSENT_ARCHS_H_

#include <string>
#include <vector>

namespace oakum::oci {

// Tokens of the runtime specification ("SCMP_ARCH_X32"): what this kernel answers every call of
// with ENOSYS, so that no program can be made for it. x32 is the only one that is looked for: most
// kernels are built without CONFIG_X86_X32_ABI, or have it switched off. Under a seccomp filter
// nobody is asked, since that might end this process for the question: nothing is absent then.
[[nodiscard]] std::vector<std::string> AbsentArchs();

}  // namespace oakum::oci

#endif  // OAKUM_OCI_ABSENT_ARCHS_H_
