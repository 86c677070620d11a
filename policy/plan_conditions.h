// How conditions on registers are written in a plan.
#ifndef OAKUM_POLICY_PLAN_CONDITIONS_H_
#define OAKUM_POLICY_PLAN_CONDITIONS_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "oci/seccomp_plan.h"

namespace oakum::policy {

// The half of a register that holds an int.
inline constexpr uint64_t kLowHalf = 0xffffffff;

[[nodiscard]] oci::ArgCondition Equal(uint32_t index, uint64_t value);
[[nodiscard]] oci::ArgCondition NotEqual(uint32_t index, uint64_t value);
[[nodiscard]] oci::ArgCondition Less(uint32_t index, uint64_t value);
[[nodiscard]] oci::ArgCondition Greater(uint32_t index, uint64_t value);
[[nodiscard]] oci::ArgCondition Masked(uint32_t index, uint64_t mask, uint64_t value);

// Branches have one comparison for each argument, so "none of these values" is written as what is
// left of the register when they (not empty) are taken out: conditions of which exactly one holds
// then. The first compares the whole register.
[[nodiscard]] std::vector<oci::ArgCondition> NoneOf(uint32_t index,
                                                    std::span<const uint64_t> values);
// The same for an argument that the kernel takes for 32 bits, whatever is in the upper half; those
// that hold for most values first.
[[nodiscard]] std::vector<oci::ArgCondition> NoneOfLowHalf(uint32_t index,
                                                           std::span<const uint64_t> values);

// A plan with one action for every call.
[[nodiscard]] oci::SyscallPlan Always(std::string_view name, oci::FilterAction action,
                                      int errno_value = 0);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PLAN_CONDITIONS_H_
