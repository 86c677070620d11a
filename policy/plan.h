// The one place that says how a policy reaches the kernel.
#ifndef OAKUM_POLICY_PLAN_H_
#define OAKUM_POLICY_PLAN_H_

#include "oci/seccomp_plan.h"
#include "policy/policy.h"

namespace oakum::policy {

// The filter that `policy` needs. Everything that registers can tell is decided in the filter;
// calls whose arguments are pointers become notifications.
[[nodiscard]] oci::SeccompPlan Plan(const Policy& policy);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PLAN_H_
