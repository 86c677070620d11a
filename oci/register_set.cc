#include "oci/register_set.h"

#include <algorithm>
#include <bit>

namespace oakum::oci {

namespace {

using Shape = RegisterSet::Shape;

constexpr uint64_t kMax = UINT64_MAX;

RegisterSet Range(uint64_t first, uint64_t last) { return {Shape::kRange, first, last}; }

// A mask without its lowest bits leaves a range.
RegisterSet Masked(uint64_t mask, uint64_t value) {
  value &= mask;
  if ((~mask & (~mask + 1)) == 0) {
    return Range(value, value | ~mask);
  }
  return {Shape::kMasked, mask, value};
}

std::vector<RegisterSet> Intersect(const MaskedBlock& x, const MaskedBlock& y) {
  const uint64_t common = x.mask & y.mask;
  if ((x.value & common) != (y.value & common)) {
    return {};
  }
  return {Masked(x.mask | y.mask, x.value | y.value)};
}

// Everything in the masked set (mask, value) but `hole`, which is in it: for each free bit the
// values that differ from the hole there and agree with it in the free bits below.
std::vector<RegisterSet> MaskedWithout(uint64_t mask, uint64_t value, uint64_t hole) {
  std::vector<RegisterSet> sets;
  for (uint64_t bit = 1; bit != 0; bit <<= 1) {
    if ((mask & bit) == 0) {
      sets.push_back(Masked(mask | bit, value | (~hole & bit)));
      mask |= bit;
      value |= hole & bit;
    }
  }
  return sets;
}

std::vector<RegisterSet> IntersectRange(const RegisterSet& range, const RegisterSet& other) {
  switch (other.shape) {
    case Shape::kRange: {
      const uint64_t first = std::max(range.a, other.a);
      const uint64_t last = std::min(range.b, other.b);
      return first <= last ? std::vector{Range(first, last)} : std::vector<RegisterSet>{};
    }
    case Shape::kNotEqual: {
      if (!range.Contains(other.a)) {
        return {range};
      }
      if (range.IsAny()) {
        return {other};
      }
      std::vector<RegisterSet> sets;
      if (range.a < other.a) {
        sets.push_back(Range(range.a, other.a - 1));
      }
      if (other.a < range.b) {
        sets.push_back(Range(other.a + 1, range.b));
      }
      return sets;
    }
    case Shape::kMasked: {
      if (range.IsAny()) {
        return {other};
      }
      std::vector<RegisterSet> sets;
      for (const MaskedBlock& block : ToBlocks(range.a, range.b)) {
        for (const RegisterSet& set : Intersect(block, MaskedBlock{other.a, other.b})) {
          sets.push_back(set);
        }
      }
      return sets;
    }
  }
  return {};
}

}  // namespace

std::vector<MaskedBlock> ToBlocks(uint64_t first, uint64_t last) {
  std::vector<MaskedBlock> blocks;
  for (;;) {
    int bits = first == 0 ? 64 : std::countr_zero(first);
    const auto end = [&] { return bits == 64 ? kMax : first + ((uint64_t{1} << bits) - 1); };
    while (end() > last || end() < first) {
      --bits;
    }
    blocks.push_back({bits == 64 ? 0 : kMax << bits, first});
    if (end() == last) {
      return blocks;
    }
    first = end() + 1;
  }
}

std::vector<RegisterSet> ToRegisterSets(const ArgCondition& condition) {
  const uint64_t value = condition.value;
  switch (condition.compare) {
    case Compare::kNotEqual:
      return {RegisterSet{Shape::kNotEqual, value, 0}};
    case Compare::kLess:
      return value == 0 ? std::vector<RegisterSet>{} : std::vector{Range(0, value - 1)};
    case Compare::kLessOrEqual:
      return {Range(0, value)};
    case Compare::kEqual:
      return {Range(value, value)};
    case Compare::kGreaterOrEqual:
      return {Range(value, kMax)};
    case Compare::kGreater:
      return value == kMax ? std::vector<RegisterSet>{} : std::vector{Range(value + 1, kMax)};
    case Compare::kMaskedEqual:
      return {Masked(value, condition.value_two)};
  }
  return {};
}

std::vector<RegisterSet> Intersect(const RegisterSet& x, const RegisterSet& y) {
  if (x.shape == Shape::kRange) {
    return IntersectRange(x, y);
  }
  if (y.shape == Shape::kRange) {
    return IntersectRange(y, x);
  }
  if (x.shape == Shape::kMasked && y.shape == Shape::kMasked) {
    return Intersect(MaskedBlock{x.a, x.b}, MaskedBlock{y.a, y.b});
  }
  if (x.shape == Shape::kNotEqual && y.shape == Shape::kNotEqual) {
    if (x.a == y.a) {
      return {x};
    }
    const auto [low, high] = std::minmax(x.a, y.a);
    std::vector<RegisterSet> sets;
    if (low > 0) {
      sets.push_back(Range(0, low - 1));
    }
    if (high - low > 1) {
      sets.push_back(Range(low + 1, high - 1));
    }
    if (high < kMax) {
      sets.push_back(Range(high + 1, kMax));
    }
    return sets;
  }
  const RegisterSet& masked = x.shape == Shape::kMasked ? x : y;
  const RegisterSet& not_equal = x.shape == Shape::kMasked ? y : x;
  if (!masked.Contains(not_equal.a)) {
    return {masked};
  }
  return MaskedWithout(masked.a, masked.b, not_equal.a);
}

std::vector<RegisterSet> Complement(const RegisterSet& x) {
  std::vector<RegisterSet> sets;
  switch (x.shape) {
    case Shape::kRange:
      if (x.a == x.b) {
        return {RegisterSet{Shape::kNotEqual, x.a, 0}};
      }
      if (x.a > 0) {
        sets.push_back(Range(0, x.a - 1));
      }
      if (x.b < kMax) {
        sets.push_back(Range(x.b + 1, kMax));
      }
      break;
    case Shape::kNotEqual:
      sets.push_back(Range(x.a, x.a));
      break;
    case Shape::kMasked: {
      // For each bit of the mask the values that differ there and agree in its lower bits.
      uint64_t below = 0;
      for (uint64_t bit = 1; bit != 0; bit <<= 1) {
        if ((x.a & bit) != 0) {
          sets.push_back(Masked(below | bit, (x.b & below) | (~x.b & bit)));
          below |= bit;
        }
      }
      break;
    }
  }
  return sets;
}

bool IsSubset(const RegisterSet& x, const RegisterSet& y) {
  // First, for a merge compares all pieces of a system call with each other, most of them masks.
  if (x.shape == Shape::kMasked && y.shape == Shape::kMasked) {
    return (y.a & ~x.a) == 0 && (x.b & y.a) == y.b;
  }
  if (x == y || y.IsAny()) {
    return true;
  }
  if (y.shape == Shape::kNotEqual) {
    return !x.Contains(y.a);
  }
  switch (x.shape) {
    case Shape::kRange: {
      if (y.shape == Shape::kRange) {
        return y.a <= x.a && x.b <= y.b;
      }
      // All bits up to the highest that differs between the ends take both values in between.
      const auto varying = std::bit_width(x.a ^ x.b);
      const uint64_t fixed = varying == 64 ? 0 : kMax << varying;
      return (y.a & ~fixed) == 0 && y.Contains(x.a);
    }
    case Shape::kNotEqual:
      // All values but one: only a range can leave out just that one, at either end.
      return y.shape == Shape::kRange ? (y.a == 0 || (y.a == 1 && x.a == 0)) &&
                                            (y.b == kMax || (y.b == kMax - 1 && x.a == kMax))
                                      : y.a == 0;
    case Shape::kMasked:
      return y.shape == Shape::kRange && y.a <= x.b && (x.b | ~x.a) <= y.b;
  }
  return false;
}

bool Overlap(const RegisterSet& x, const RegisterSet& y) {
  if (x.shape == Shape::kMasked && y.shape == Shape::kMasked) {
    return ((x.b ^ y.b) & x.a & y.a) == 0;
  }
  if (x.shape == Shape::kRange && y.shape == Shape::kRange) {
    return std::max(x.a, y.a) <= std::min(x.b, y.b);
  }
  if (x.IsAny() || y.IsAny()) {
    return true;
  }
  return !Intersect(x, y).empty();
}

}  // namespace oakum::oci
