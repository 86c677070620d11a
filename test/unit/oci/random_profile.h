// Random seccomp sections and plans: valid ones, and many that are hard to merge.
#ifndef OAKUM_TEST_UNIT_OCI_RANDOM_PROFILE_H_
#define OAKUM_TEST_UNIT_OCI_RANDOM_PROFILE_H_

#include <random>

#include "oci/json.h"
#include "oci/seccomp_plan.h"

namespace oakum::oci {

[[nodiscard]] Json RandomSection(std::mt19937_64& random);

// A plan whose branches are disjoint and complete.
[[nodiscard]] SeccompPlan RandomPlan(std::mt19937_64& random);

}  // namespace oakum::oci

#endif  // OAKUM_TEST_UNIT_OCI_RANDOM_PROFILE_H_
