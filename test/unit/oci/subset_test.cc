// IsSubset has a formula for each pair of shapes: checked against what Complement and Intersect
// say.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "oci/arg_condition.h"

namespace oakum::oci {
namespace {

using Shape = RegisterSet::Shape;

// Few bits at either end of the register, so that sets often hold each other.
uint64_t Value(std::mt19937_64& random) {
  const uint64_t low = random() % 8;
  switch (random() % 4) {
    case 0:
      return low;
    case 1:
      return UINT64_MAX - low;
    case 2:
      return low | (random() % 4) << 62;
    default:
      return uint64_t{1} << (random() % 64);
  }
}

RegisterSet Set(std::mt19937_64& random) {
  const auto [a, b] = std::minmax({Value(random), Value(random)});
  switch (random() % 4) {
    case 0:
      return {Shape::kNotEqual, a, 0};
    case 1:
      return {Shape::kMasked, b, a & b};
    case 2:
      return {Shape::kRange, a, a};
    default:
      return {Shape::kRange, a, b};
  }
}

TEST(IsSubset, AgreesWithTheAlgebra) {
  std::mt19937_64 random(4711);
  int subsets = 0;
  for (int i = 0; i < 200000; ++i) {
    const RegisterSet x = Set(random);
    const RegisterSet y = Set(random);
    const bool expected = std::ranges::all_of(
        Complement(y), [&](const RegisterSet& outside) { return Intersect(x, outside).empty(); });
    subsets += expected ? 1 : 0;
    // A mask of nothing is every value, for which there are two shapes.
    ASSERT_EQ(IsSubset(x, y), expected)
        << static_cast<int>(x.shape) << " " << x.a << " " << x.b << " in "
        << static_cast<int>(y.shape) << " " << y.a << " " << y.b;
  }
  EXPECT_GT(subsets, 10000);
}

}  // namespace
}  // namespace oakum::oci
