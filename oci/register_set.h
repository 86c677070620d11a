// Algebra of sets of values of one system call argument, of the shapes that comparisons describe.
#ifndef OAKUM_OCI_REGISTER_SET_H_
#define OAKUM_OCI_REGISTER_SET_H_

#include <cstdint>
#include <vector>

#include "oci/seccomp_plan.h"

namespace oakum::oci {

// A non-empty set of values of one 64-bit register, of one of three shapes.
struct RegisterSet {
  enum class Shape : uint8_t {
    kRange,     // a <= reg <= b
    kNotEqual,  // reg != a
    kMasked,    // (reg & a) == b; b has no bit outside a
  };
  Shape shape = Shape::kRange;
  uint64_t a = 0;
  uint64_t b = UINT64_MAX;

  bool operator==(const RegisterSet&) const = default;
  [[nodiscard]] bool IsAny() const { return shape == Shape::kRange && a == 0 && b == UINT64_MAX; }
  [[nodiscard]] bool Contains(uint64_t value) const {
    switch (shape) {
      case Shape::kRange:
        return a <= value && value <= b;
      case Shape::kNotEqual:
        return value != a;
      case Shape::kMasked:
        return (value & a) == b;
    }
    return false;
  }
};

// The set that `condition` describes, with libseccomp's reading of it: bits of value_two outside
// the mask are ignored. Empty when no value satisfies it.
[[nodiscard]] std::vector<RegisterSet> ToRegisterSets(const ArgCondition& condition);
// Pairwise disjoint sets whose union is the intersection of `x` and `y`.
[[nodiscard]] std::vector<RegisterSet> Intersect(const RegisterSet& x, const RegisterSet& y);
// Pairwise disjoint sets whose union is everything outside `x`.
[[nodiscard]] std::vector<RegisterSet> Complement(const RegisterSet& x);
[[nodiscard]] bool IsSubset(const RegisterSet& x, const RegisterSet& y);
[[nodiscard]] bool Overlap(const RegisterSet& x, const RegisterSet& y);

// What one masked comparison describes: (reg & mask) == value.
struct MaskedBlock {
  uint64_t mask;
  uint64_t value;
};

// The range first..last, both in it, as aligned blocks of a power of two.
[[nodiscard]] std::vector<MaskedBlock> ToBlocks(uint64_t first, uint64_t last);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_REGISTER_SET_H_
