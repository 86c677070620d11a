// The property that the seccomp merge must have, checked on the BPF of both sections.
#ifndef OAKUM_TEST_UNIT_OCI_NEVER_WEAKER_H_
#define OAKUM_TEST_UNIT_OCI_NEVER_WEAKER_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "oci/json.h"
#include "oci/seccomp_plan.h"
#include "test/unit/oci/runtime_filter.h"

namespace oakum::oci {

enum class MergeOutcome : uint8_t {
  kChecked,  // both filters were built and compared
  kInvalid,  // the runtime refuses the section as it is
  kRefused,  // the merge refuses it
};

struct CheckResult {
  MergeOutcome outcome = MergeOutcome::kChecked;
  std::string error;     // of kInvalid and kRefused
  uint64_t calls = 0;    // compared
  uint64_t denied = 0;   // of these: denied before
  uint64_t changed = 0;  // of these: allowed before, something else after
};

// Merges `plan` into `section`, builds both filters as `kind` does, and runs them on calls of every
// architecture: what was denied must be denied with the same action and errno, what was allowed
// must be what the plan says. In half of the cases x32 counts as absent: none of its calls may get
// by. Each difference is a test failure that names the call.
[[nodiscard]] CheckResult CheckNeverWeaker(const Json& section, const SeccompPlan& plan,
                                           RuntimeKind kind, std::mt19937_64& random);

// The rules, and the whole plan, that an enforcing policy needs.
[[nodiscard]] SeccompPlan EnforcingPlan();

// The same as part of an allow-list: calls that stay, calls that get `errno_value` (with
// `refuses_ipc` one that ipc(2) carries is among them), and all others.
[[nodiscard]] SeccompPlan ClosedPlan(int errno_value, int others_errno, bool refuses_ipc);

}  // namespace oakum::oci

#endif  // OAKUM_TEST_UNIT_OCI_NEVER_WEAKER_H_
