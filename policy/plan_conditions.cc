#include "policy/plan_conditions.h"

#include <algorithm>
#include <bit>
#include <string>

namespace oakum::policy {

using oci::ArgCondition;
using oci::Compare;

ArgCondition Equal(uint32_t index, uint64_t value) {
  return {.index = index, .compare = Compare::kEqual, .value = value};
}

ArgCondition NotEqual(uint32_t index, uint64_t value) {
  return {.index = index, .compare = Compare::kNotEqual, .value = value};
}

ArgCondition Less(uint32_t index, uint64_t value) {
  return {.index = index, .compare = Compare::kLess, .value = value};
}

ArgCondition Greater(uint32_t index, uint64_t value) {
  return {.index = index, .compare = Compare::kGreater, .value = value};
}

ArgCondition Masked(uint32_t index, uint64_t mask, uint64_t value) {
  return {.index = index, .compare = Compare::kMaskedEqual, .value = mask, .value_two = value};
}

namespace {

// Aligned blocks of [begin, begin + size) that hold none of the values: Masked on every bit of the
// lower half but the low ones of the block. With `whole` a block of one value compares the whole
// register; where it is larger, and the upper half has something, Greater says the same.
void AddBlocks(uint32_t index, std::span<const uint64_t> values, bool whole, uint64_t begin,
               uint64_t size, std::vector<ArgCondition>& out) {
  const bool holds_value = std::ranges::any_of(
      values, [&](uint64_t value) { return value >= begin && value < begin + size; });
  if (!holds_value) {
    out.push_back(size == 1 && whole ? Equal(index, begin)
                                     : Masked(index, kLowHalf & ~(size - 1), begin));
  } else if (size > 1) {
    AddBlocks(index, values, whole, begin, size / 2, out);
    AddBlocks(index, values, whole, begin + size / 2, size / 2, out);
  }
}

}  // namespace

std::vector<ArgCondition> NoneOf(uint32_t index, std::span<const uint64_t> values) {
  const uint64_t end = std::bit_ceil(std::ranges::max(values) + 1);
  std::vector<ArgCondition> out;
  AddBlocks(index, values, true, 0, end, out);
  out.push_back(Greater(index, end - 1));
  return out;
}

std::vector<ArgCondition> NoneOfLowHalf(uint32_t index, std::span<const uint64_t> values) {
  std::vector<ArgCondition> out;
  AddBlocks(index, values, false, 0, kLowHalf + 1, out);
  // Each then takes half of what is left, which the merge can follow without splitting it further.
  std::ranges::stable_sort(out, {},
                           [](const ArgCondition& block) { return std::popcount(block.value); });
  return out;
}

oci::SyscallPlan Always(std::string_view name, oci::FilterAction action, int errno_value) {
  return {.name = std::string(name),
          .branches = {{.conditions = {}, .action = action, .errno_value = errno_value}}};
}

}  // namespace oakum::policy
