#include "oci/arg_condition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace oakum::oci {

namespace {

using Shape = RegisterSet::Shape;

constexpr uint64_t kMax = UINT64_MAX;
constexpr uint64_t kLow32 = UINT32_MAX;

std::unexpected<Error> TooMany() {
  return MakeError(E2BIG, fmt::format("needs more than {} rules for one system call", kMaxRegions));
}

}  // namespace

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

ArgCondition ToCondition(uint32_t index, const MaskedBlock& block) {
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
  const std::vector<MaskedBlock> blocks = ToBlocks(set.a, set.b);
  if (blocks.size() > 1 && set.a == 0) {
    return {{index, Compare::kLessOrEqual, set.b, 0}};
  }
  if (blocks.size() > 1 && set.b == kMax) {
    return {{index, Compare::kGreater, set.a - 1, 0}};  // fits into 32 bits more often than >=
  }
  std::vector<ArgCondition> conditions;
  conditions.reserve(blocks.size());
  for (const MaskedBlock& block : blocks) {
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
    for (const MaskedBlock& block : ToBlocks(first, last)) {
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
