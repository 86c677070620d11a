// A plan that has been checked, with the sets of calls that its branches decide.
#ifndef OAKUM_OCI_SECCOMP_PLANNED_H_
#define OAKUM_OCI_SECCOMP_PLANNED_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "oci/arg_condition.h"
#include "oci/seccomp_plan.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

// A branch of the plan with its set of calls.
struct PlannedBranch {
  ArgRegion region;
  FilterAction action;
  uint16_t errno_value;
};

struct PlannedSyscall {
  std::string name;
  std::vector<PlannedBranch> branches;
  std::vector<ArgCondition> conditions;  // of all branches

  // The only branch, when it decides every call; nullptr otherwise.
  [[nodiscard]] const PlannedBranch* Unconditional() const {
    return branches.size() == 1 && branches[0].region == kAnyArgs ? branches.data() : nullptr;
  }
  // Whether nothing is asked of it but to stay as the engine's profile has it.
  [[nodiscard]] bool IsAllowed() const {
    return branches.size() == 1 && branches[0].region == kAnyArgs &&
           branches[0].action == FilterAction::kAllow;
  }
};

struct CheckedPlan {
  std::vector<PlannedSyscall> syscalls;
  std::optional<uint16_t> others_errno;  // as in SeccompPlan
};

// What the branch does with a call that the engine lets through with `allowed`.
[[nodiscard]] SeccompAction ActionOf(const PlannedBranch& branch, const SeccompAction& allowed);

// Checks that names are unique, branches without conflict and complete, errnos in range, and that
// runc takes it. Errors: EINVAL, "NAME: plan: ...": a malformed plan is a mistake of ours, and one
// that could leave a way open.
[[nodiscard]] Expected<CheckedPlan> CheckPlan(const SeccompPlan& plan);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_PLANNED_H_
