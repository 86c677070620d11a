// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (seccomp(2), Linux 5.19): who takes it.
#ifndef OAKUM_OCI_WAIT_KILLABLE_H_
#define OAKUM_OCI_WAIT_KILLABLE_H_

#include <string>
#include <string_view>

namespace oakum::oci {

// Under a filter with it, a caller whose call has been received sleeps through every signal that
// does not kill it, until it is answered: no call is made again, and no answer is thrown away.
inline constexpr char kWaitKillableFlag[] = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";

// Whether the running kernel knows the flag.
[[nodiscard]] bool KernelKnowsWaitKillable();
// Whether it also keeps what it promises: before Linux 6.18 (some stable releases have the
// correction) an answer that was quick could be thrown away all the same. `release`: uname(2)'s.
[[nodiscard]] bool KernelKeepsWaitKillable(std::string_view release);
// Both, of the running kernel.
[[nodiscard]] bool KernelWaitsKillable();

// What a runtime's `--version` says about it.
enum class RuntimeAnswer { kYes, kNo, kAskFeatures };
[[nodiscard]] RuntimeAnswer WaitKillableByVersion(std::string_view version_output);
// Whether it is among linux.seccomp.supportedFlags of what `features` says (runtime-spec,
// features-linux.md). False where that is no such document.
[[nodiscard]] bool WaitKillableByFeatures(const std::string& features_output);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_WAIT_KILLABLE_H_
