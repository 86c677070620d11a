// The "syscalls" of a policy as part of its plan.
#ifndef OAKUM_POLICY_PLAN_SYSCALLS_H_
#define OAKUM_POLICY_PLAN_SYSCALLS_H_

#include "oci/seccomp_plan.h"
#include "policy/checked.h"

namespace oakum::policy {

// Narrows `plan`, which has what the guard needs, to what `rules` allow. What the guard has decided
// stays, unless it is denied altogether.
void ApplySyscallRules(const SyscallRules& rules, oci::SeccompPlan& plan);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PLAN_SYSCALLS_H_
