// What a policy asks of the kernel filter: the input of the seccomp merge.
#ifndef OAKUM_OCI_SECCOMP_PLAN_H_
#define OAKUM_OCI_SECCOMP_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace oakum::oci {

// Comparison operators of the runtime specification (config-linux.md, "Seccomp", `op`).
enum class Compare : uint8_t {
  kNotEqual,
  kLess,
  kLessOrEqual,
  kEqual,
  kGreaterOrEqual,
  kGreater,
  kMaskedEqual
};

// One comparison of one 64-bit argument register: for kMaskedEqual (reg & value) == value_two, as
// SCMP_CMP_MASKED_EQ has it; otherwise `reg OP value` and value_two is 0.
struct ArgCondition {
  uint32_t index = 0;  // 0..5
  Compare compare = Compare::kEqual;
  uint64_t value = 0;
  uint64_t value_two = 0;

  bool operator==(const ArgCondition&) const = default;
};

// What the filter does with a call that the engine's own profile allows.
enum class FilterAction : uint8_t { kAllow, kNotify, kErrno };

// Calls that satisfy all of `conditions` (at most one for each argument index, as libseccomp
// demands within one rule) get `action`. Branches of one syscall whose action or errno differs are
// disjoint.
// Comparisons other than kEqual and kMaskedEqual belong to the argument with the highest index of a
// branch: libseccomp cannot build two rules that have one before it, and splitting them into masks
// is only possible without 32-bit architectures.
struct FilterBranch {
  std::vector<ArgCondition> conditions;  // empty: every call
  FilterAction action = FilterAction::kNotify;
  int errno_value = 0;  // for kErrno: 1..4095

  bool operator==(const FilterBranch&) const = default;
};

// The branches of one syscall. Together they cover every combination of arguments: what the
// engine's profile allows and no branch matches does not exist.
struct SyscallPlan {
  std::string name;  // as libseccomp knows it
  std::vector<FilterBranch> branches;

  bool operator==(const SyscallPlan&) const = default;
};

// The whole of what one policy needs.
struct SeccompPlan {
  std::vector<SyscallPlan> syscalls;  // each name once
  // Syscalls that are not named: as the engine's profile has them, or, when this is set, refused
  // with this errno where the profile allows them, numbers that have no name yet among them. Where
  // a section leaves no way to say this errno, they are refused with another.
  std::optional<int> others_errno = std::nullopt;

  bool operator==(const SeccompPlan&) const = default;
};

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_PLAN_H_
