#include "oci/arg_condition.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

namespace oakum::oci {

namespace {

using Shape = RegisterSet::Shape;

constexpr uint64_t kMax = UINT64_MAX;
constexpr uint64_t kLow32 = UINT32_MAX;

RegisterSet Range(uint64_t first, uint64_t last) { return {Shape::kRange, first, last}; }

// What one masked comparison describes.
struct Block {
  uint64_t mask;
  uint64_t value;
};

// A mask without its lowest bits leaves a range.
RegisterSet Masked(uint64_t mask, uint64_t value) {
  value &= mask;
  if ((~mask & (~mask + 1)) == 0) {
    return Range(value, value | ~mask);
  }
  return {Shape::kMasked, mask, value};
}

// The range as aligned blocks of a power of two.
std::vector<Block> ToBlocks(uint64_t first, uint64_t last) {
  std::vector<Block> blocks;
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

std::vector<RegisterSet> Intersect(const Block& x, const Block& y) {
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
      for (const Block& block : ToBlocks(range.a, range.b)) {
        for (const RegisterSet& set : Intersect(block, Block{other.a, other.b})) {
          sets.push_back(set);
        }
      }
      return sets;
    }
  }
  return {};
}

}  // namespace

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
    return Intersect(Block{x.a, x.b}, Block{y.a, y.b});
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
      if (y.shape == Shape::kRange) {
        return y.a <= x.b && (x.b | ~x.a) <= y.b;
      }
      return (y.a & ~x.a) == 0 && (x.b & y.a) == y.b;
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

Expected<std::vector<ArgRegion>> ToRegions(std::span<const ArgCondition> conditions) {
  ArgRegion region = kAnyArgs;
  std::array<bool, kArgCount> seen = {};
  for (const ArgCondition& condition : conditions) {
    if (condition.index >= kArgCount) {
      return MakeError(
          EINVAL, fmt::format("argument index {} is not in 0..{}", condition.index, kArgCount - 1));
    }
    if (std::exchange(seen[condition.index], true)) {
      return MakeError(EINVAL, fmt::format("two conditions on argument {}", condition.index));
    }
    const std::vector<RegisterSet> sets = ToRegisterSets(condition);
    if (sets.empty()) {
      return std::vector<ArgRegion>{};
    }
    region[condition.index] = sets[0];
  }
  return std::vector{region};
}

namespace {

std::unexpected<Error> TooMany() {
  return MakeError(E2BIG, fmt::format("needs more than {} rules for one system call", kMaxRegions));
}

}  // namespace

Expected<std::vector<ArgRegion>> Intersect(const ArgRegion& x, const ArgRegion& y) {
  std::vector<ArgRegion> regions = {x};
  for (size_t arg = 0; arg < kArgCount; ++arg) {
    if (IsSubset(x[arg], y[arg])) {
      continue;
    }
    const std::vector<RegisterSet> sets =
        x[arg].IsAny() ? std::vector{y[arg]} : Intersect(x[arg], y[arg]);
    if (regions.size() * sets.size() > kMaxRegions) {
      return TooMany();
    }
    if (sets.size() == 1) {
      std::ranges::for_each(regions, [&](ArgRegion& region) { region[arg] = sets[0]; });
      continue;
    }
    std::vector<ArgRegion> next;
    next.reserve(regions.size() * sets.size());
    for (const ArgRegion& region : regions) {
      for (const RegisterSet& set : sets) {
        next.push_back(region);
        next.back()[arg] = set;
      }
    }
    regions = std::move(next);
  }
  return regions;
}

Expected<std::vector<ArgRegion>> Subtract(const ArgRegion& x, std::span<const ArgRegion> holes) {
  // What is outside of a mask comes in many pieces; few of them are left once holes that cut
  // through few arguments, and ranges, are taken out.
  std::vector<ArgRegion> sorted(holes.begin(), holes.end());
  std::ranges::stable_sort(sorted, {}, [&](const ArgRegion& hole) {
    std::pair<size_t, ptrdiff_t> cost;
    for (size_t arg = 0; arg < kArgCount; ++arg) {
      cost.first += IsSubset(x[arg], hole[arg]) ? 0 : 1;
    }
    cost.second = std::ranges::count(hole, Shape::kMasked, &RegisterSet::shape);
    return cost;
  });
  std::vector<ArgRegion> rest = {x};
  for (const ArgRegion& hole : sorted) {
    std::vector<ArgRegion> next;
    for (const ArgRegion& region : rest) {
      if (!Overlap(region, hole)) {
        next.push_back(region);
        continue;
      }
      // Outside the hole's first argument; or inside it and outside the second; and so on.
      ArgRegion inside = kAnyArgs;
      for (size_t arg = 0; arg < kArgCount; ++arg) {
        if (IsSubset(region[arg], hole[arg])) {
          continue;
        }
        for (const RegisterSet& outside : Complement(hole[arg])) {
          ArgRegion piece = inside;
          piece[arg] = outside;
          auto pieces = Intersect(region, piece);
          if (!pieces) {
            return pieces;
          }
          next.insert(next.end(), pieces->begin(), pieces->end());
        }
        inside[arg] = hole[arg];
        if (next.size() > kMaxRegions) {
          return TooMany();
        }
      }
    }
    rest = std::move(next);
  }
  return rest;
}

bool IsSubset(const ArgRegion& x, const ArgRegion& y) {
  for (size_t arg = 0; arg < kArgCount; ++arg) {
    if (!IsSubset(x[arg], y[arg])) {
      return false;
    }
  }
  return true;
}

bool Overlap(const ArgRegion& x, const ArgRegion& y) {
  for (size_t arg = 0; arg < kArgCount; ++arg) {
    if (!Overlap(x[arg], y[arg])) {
      return false;
    }
  }
  return true;
}

namespace {

ArgCondition ToCondition(uint32_t index, const Block& block) {
  if (block.mask == kMax) {
    return {index, Compare::kEqual, block.value, 0};
  }
  return {index, Compare::kMaskedEqual, block.mask, block.value};
}

std::vector<ArgCondition> ToConditions(uint32_t index, const RegisterSet& set) {
  switch (set.shape) {
    case Shape::kNotEqual:
      return {{index, Compare::kNotEqual, set.a, 0}};
    case Shape::kMasked:
      return {ToCondition(index, {set.a, set.b})};
    case Shape::kRange:
      break;
  }
  const std::vector<Block> blocks = ToBlocks(set.a, set.b);
  if (blocks.size() > 1 && set.a == 0) {
    return {{index, Compare::kLessOrEqual, set.b, 0}};
  }
  if (blocks.size() > 1 && set.b == kMax) {
    return {{index, Compare::kGreater, set.a - 1, 0}};  // fits into 32 bits more often than >=
  }
  std::vector<ArgCondition> conditions;
  conditions.reserve(blocks.size());
  for (const Block& block : blocks) {
    conditions.push_back(ToCondition(index, block));
  }
  return conditions;
}

}  // namespace

Expected<std::vector<std::vector<ArgCondition>>> ToRules(const ArgRegion& region) {
  std::vector<std::vector<ArgCondition>> rules = {{}};
  for (uint32_t arg = 0; arg < kArgCount; ++arg) {
    if (region[arg].IsAny()) {
      continue;
    }
    const std::vector<ArgCondition> conditions = ToConditions(arg, region[arg]);
    if (rules.size() * conditions.size() > kMaxRegions) {
      return TooMany();
    }
    std::vector<std::vector<ArgCondition>> next;
    for (const auto& rule : rules) {
      for (const ArgCondition& condition : conditions) {
        next.push_back(rule);
        next.back().push_back(condition);
      }
    }
    rules = std::move(next);
  }
  return rules;
}

namespace {

bool IsForked(const ArgCondition& condition) {
  return condition.compare != Compare::kEqual && condition.compare != Compare::kMaskedEqual;
}

bool IsForkedEarly(const std::vector<ArgCondition>& rule) {
  const auto last = std::ranges::max_element(rule, {}, &ArgCondition::index);
  return std::ranges::any_of(rule, [&](const ArgCondition& condition) {
    return IsForked(condition) && condition.index != last->index;
  });
}

// The condition as equalities and masked equalities.
std::vector<ArgCondition> Unforked(const ArgCondition& condition) {
  std::vector<ArgCondition> conditions;
  const auto add = [&](uint64_t first, uint64_t last) {
    for (const Block& block : ToBlocks(first, last)) {
      conditions.push_back(ToCondition(condition.index, block));
    }
  };
  for (const RegisterSet& set : ToRegisterSets(condition)) {
    switch (set.shape) {
      case Shape::kRange:
        add(set.a, set.b);
        break;
      case Shape::kNotEqual:
        if (set.a > 0) {
          add(0, set.a - 1);
        }
        if (set.a < kMax) {
          add(set.a + 1, kMax);
        }
        break;
      case Shape::kMasked:
        conditions.push_back(ToCondition(condition.index, {set.a, set.b}));
        break;
    }
  }
  return conditions;
}

}  // namespace

bool MayCorruptTree(std::span<const std::vector<ArgCondition>> rules) {
  return std::ranges::count_if(rules, IsForkedEarly) > 1;
}

Expected<std::vector<std::vector<ArgCondition>>> ToTreeRules(std::vector<ArgCondition> rule) {
  std::ranges::sort(rule, {}, &ArgCondition::index);
  std::vector<std::vector<ArgCondition>> rules = {{}};
  for (size_t i = 0; i < rule.size(); ++i) {
    const bool is_last = i + 1 == rule.size();
    const std::vector<ArgCondition> conditions =
        is_last || !IsForked(rule[i]) ? std::vector{rule[i]} : Unforked(rule[i]);
    if (rules.size() * conditions.size() > kMaxRegions) {
      return TooMany();
    }
    std::vector<std::vector<ArgCondition>> next;
    for (const auto& prefix : rules) {
      for (const ArgCondition& condition : conditions) {
        next.push_back(prefix);
        next.back().push_back(condition);
      }
    }
    rules = std::move(next);
  }
  return rules;
}

bool FitsIn32Bits(const ArgCondition& condition) {
  if (condition.compare == Compare::kMaskedEqual) {
    // With nothing left of the mask the condition would vanish.
    return (condition.value & condition.value_two) <= kLow32 &&
           ((condition.value & kLow32) != 0 || condition.value == 0);
  }
  return condition.value <= kLow32;
}

bool IsNoOp(const ArgCondition& condition) {
  return condition.compare == Compare::kMaskedEqual && condition.value == 0;
}

}  // namespace oakum::oci
