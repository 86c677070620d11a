// What a plan makes of one call.
#ifndef OAKUM_TEST_UNIT_POLICY_PLAN_TESTING_H_
#define OAKUM_TEST_UNIT_POLICY_PLAN_TESTING_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "oci/seccomp_plan.h"

namespace oakum::policy::testing {

using Registers = std::array<uint64_t, 6>;

inline bool Holds(const oci::ArgCondition& condition, const Registers& registers) {
  const uint64_t value = registers[condition.index];
  switch (condition.compare) {
    case oci::Compare::kNotEqual:
      return value != condition.value;
    case oci::Compare::kLess:
      return value < condition.value;
    case oci::Compare::kLessOrEqual:
      return value <= condition.value;
    case oci::Compare::kEqual:
      return value == condition.value;
    case oci::Compare::kGreaterOrEqual:
      return value >= condition.value;
    case oci::Compare::kGreater:
      return value > condition.value;
    case oci::Compare::kMaskedEqual:
      return (value & condition.value) == condition.value_two;
  }
  return false;
}

inline std::vector<const oci::FilterBranch*> BranchesOf(const oci::SyscallPlan& plan,
                                                        const Registers& registers) {
  std::vector<const oci::FilterBranch*> found;
  for (const oci::FilterBranch& branch : plan.branches) {
    if (std::all_of(
            branch.conditions.begin(), branch.conditions.end(),
            [&](const oci::ArgCondition& condition) { return Holds(condition, registers); })) {
      found.push_back(&branch);
    }
  }
  return found;
}

inline const oci::SyscallPlan* FindSyscall(const oci::SeccompPlan& plan, std::string_view name) {
  for (const oci::SyscallPlan& syscall : plan.syscalls) {
    if (syscall.name == name) {
      return &syscall;
    }
  }
  return nullptr;
}

}  // namespace oakum::policy::testing

#endif  // OAKUM_TEST_UNIT_POLICY_PLAN_TESTING_H_
