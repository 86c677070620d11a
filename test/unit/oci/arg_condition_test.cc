#include "oci/arg_condition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace oakum::oci {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

// Conditions of every operator around values where ranges, masks and 32-bit halves meet.
std::vector<ArgCondition> Conditions() {
  const uint64_t values[] = {0,          1,          2,          16,         0x20000000, 0x7fffffff,
                             0xffffffff, 1ULL << 32, 1ULL << 63, UINT64_MAX, 0xf0,       41};
  std::vector<ArgCondition> conditions;
  for (const uint64_t value : values) {
    for (int compare = 0; compare < 6; ++compare) {
      conditions.push_back({0, static_cast<Compare>(compare), value, 0});
    }
    for (const uint64_t two : {uint64_t{0}, value, uint64_t{0x30}, UINT64_MAX}) {
      conditions.push_back({0, Compare::kMaskedEqual, value, two});
    }
  }
  return conditions;
}

std::vector<uint64_t> Samples(std::mt19937_64& random) {
  std::vector<uint64_t> samples;
  for (const ArgCondition& condition : Conditions()) {
    for (const uint64_t base : {condition.value, condition.value & condition.value_two}) {
      samples.insert(samples.end(), {base, base + 1, base - 1, ~base, base ^ 0x10, base ^ 2});
    }
  }
  for (int i = 0; i < 50; ++i) {
    samples.push_back(random());
  }
  return samples;
}

bool Satisfies(const ArgCondition& condition, uint64_t value) {
  switch (condition.compare) {
    case Compare::kNotEqual:
      return value != condition.value;
    case Compare::kLess:
      return value < condition.value;
    case Compare::kLessOrEqual:
      return value <= condition.value;
    case Compare::kEqual:
      return value == condition.value;
    case Compare::kGreaterOrEqual:
      return value >= condition.value;
    case Compare::kGreater:
      return value > condition.value;
    case Compare::kMaskedEqual:
      return (value & condition.value) == (condition.value_two & condition.value);
  }
  return false;
}

size_t CountContaining(const std::vector<RegisterSet>& sets, uint64_t value) {
  size_t count = 0;
  for (const RegisterSet& set : sets) {
    count += set.Contains(value) ? 1 : 0;
  }
  return count;
}

TEST(RegisterSetTest, AgreesWithTheComparisonsPointByPoint) {
  std::mt19937_64 random(1);
  const std::vector<uint64_t> samples = Samples(random);
  const std::vector<ArgCondition> conditions = Conditions();
  for (const ArgCondition& x : conditions) {
    const std::vector<RegisterSet> of_x = ToRegisterSets(x);
    ASSERT_LE(of_x.size(), 1U);
    for (const uint64_t value : samples) {
      ASSERT_EQ(CountContaining(of_x, value), Satisfies(x, value) ? 1U : 0U);
    }
    if (of_x.empty()) {
      continue;
    }
    const std::vector<RegisterSet> outside = Complement(of_x[0]);
    for (const uint64_t value : samples) {
      ASSERT_EQ(CountContaining(outside, value), Satisfies(x, value) ? 0U : 1U);
    }
    for (const ArgCondition& y : conditions) {
      const std::vector<RegisterSet> of_y = ToRegisterSets(y);
      if (of_y.empty()) {
        continue;
      }
      const std::vector<RegisterSet> both = Intersect(of_x[0], of_y[0]);
      bool subset = true;
      for (const uint64_t value : samples) {
        // Exactly one of the disjoint sets, or none.
        ASSERT_EQ(CountContaining(both, value),
                  Satisfies(x, value) && Satisfies(y, value) ? 1U : 0U)
            << static_cast<int>(x.compare) << " " << x.value << " " << x.value_two << " and "
            << static_cast<int>(y.compare) << " " << y.value << " " << y.value_two << " at "
            << value;
        subset &= !Satisfies(x, value) || Satisfies(y, value);
      }
      if (IsSubset(of_x[0], of_y[0])) {
        ASSERT_TRUE(subset);
      } else {
        ASSERT_FALSE(both.size() == 1 && both[0] == of_x[0]);
      }
    }
  }
}

std::vector<ArgCondition> OnlyRules(const RegisterSet& set) {
  ArgRegion region = kAnyArgs;
  region[3] = set;
  std::vector<ArgCondition> conditions;
  const auto rules = ToRules(region);
  for (const auto& rule : *rules) {
    EXPECT_THAT(rule, SizeIs(1));
    conditions.push_back(rule.at(0));
  }
  return conditions;
}

TEST(ToRulesTest, SplitsRangesIntoWhatOneComparisonSays) {
  using Shape = RegisterSet::Shape;
  EXPECT_THAT(OnlyRules({Shape::kRange, 7, 7}),
              ElementsAre(ArgCondition{3, Compare::kEqual, 7, 0}));
  EXPECT_THAT(OnlyRules({Shape::kRange, 0, 8}),
              ElementsAre(ArgCondition{3, Compare::kLessOrEqual, 8, 0}));
  EXPECT_THAT(OnlyRules({Shape::kRange, 0, 7}),
              ElementsAre(ArgCondition{3, Compare::kMaskedEqual, ~uint64_t{7}, 0}));
  EXPECT_THAT(OnlyRules({Shape::kRange, 7, UINT64_MAX}),
              ElementsAre(ArgCondition{3, Compare::kGreater, 6, 0}));
  EXPECT_THAT(OnlyRules({Shape::kRange, 3, 9}),
              ElementsAre(ArgCondition{3, Compare::kEqual, 3, 0},
                          ArgCondition{3, Compare::kMaskedEqual, ~uint64_t{3}, 4},
                          ArgCondition{3, Compare::kMaskedEqual, ~uint64_t{1}, 8}));
}

TEST(ToRulesTest, CoversRandomRangesExactlyOnce) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 500; ++i) {
    uint64_t first = random() >> (random() % 64);
    uint64_t last = random() >> (random() % 64);
    if (first > last) {
      std::swap(first, last);
    }
    const std::vector<ArgCondition> conditions =
        OnlyRules({RegisterSet::Shape::kRange, first, last});
    for (const uint64_t value :
         {first, last, first - 1, last + 1, first + (last - first) / 2, random(), random() >> 32}) {
      size_t count = 0;
      for (const ArgCondition& condition : conditions) {
        count += Satisfies(condition, value) ? 1 : 0;
      }
      EXPECT_EQ(count, first <= value && value <= last ? 1U : 0U);
    }
  }
}

TEST(ArgRegionTest, SubtractsExactly) {
  const ArgCondition netlink{0, Compare::kEqual, 16, 0};
  const ArgCondition audit{2, Compare::kEqual, 9, 0};
  const ArgCondition masked{1, Compare::kMaskedEqual, 0xf, 3};
  const std::vector<ArgRegion> holes = {(*ToRegions(std::vector{netlink, audit}))[0],
                                        (*ToRegions(std::vector{masked}))[0]};
  const auto rest = Subtract(kAnyArgs, holes);
  ASSERT_TRUE(rest);
  for (const uint64_t domain : {2, 16, 17}) {
    for (const uint64_t type : {1, 2, 3, 0x80003}) {
      for (const uint64_t protocol : {0, 9, 10}) {
        const bool hole = (domain == 16 && protocol == 9) || (type & 0xf) == 3;
        size_t count = 0;
        for (const ArgRegion& region : *rest) {
          count +=
              region[0].Contains(domain) && region[1].Contains(type) && region[2].Contains(protocol)
                  ? 1
                  : 0;
        }
        EXPECT_EQ(count, hole ? 0U : 1U);
      }
    }
  }
  const auto nothing = Subtract(holes[0], holes);
  ASSERT_TRUE(nothing);
  EXPECT_TRUE(nothing->empty());
}

TEST(ArgRegionTest, RefusesWhatLibseccompWouldNotTake) {
  EXPECT_EQ(ToRegions(std::vector{ArgCondition{6, Compare::kEqual, 0, 0}}).error().code, EINVAL);
  EXPECT_EQ(ToRegions(std::vector{ArgCondition{1, Compare::kGreater, 1, 0},
                                  ArgCondition{1, Compare::kLess, 9, 0}})
                .error()
                .code,
            EINVAL);
  // A contradiction is no region at all.
  EXPECT_THAT(*ToRegions(std::vector{ArgCondition{1, Compare::kLess, 0, 0}}), SizeIs(0));
}

TEST(ArgRegionTest, BoundsItsGrowth) {
  ArgRegion masked = kAnyArgs;
  ArgRegion unequal = kAnyArgs;
  for (size_t arg = 0; arg < kArgCount; ++arg) {
    masked[arg] = {RegisterSet::Shape::kMasked, 1, 1};
    unequal[arg] = {RegisterSet::Shape::kNotEqual, 1, 0};
  }
  const auto pieces = Intersect(masked, unequal);
  ASSERT_FALSE(pieces);
  EXPECT_EQ(pieces.error().code, E2BIG);
}

TEST(ArgConditionTest, KnowsWhat32BitsChange) {
  EXPECT_TRUE(FitsIn32Bits({0, Compare::kEqual, 0xffffffff, 0}));
  EXPECT_FALSE(FitsIn32Bits({0, Compare::kEqual, 1ULL << 32, 0}));
  EXPECT_TRUE(FitsIn32Bits({0, Compare::kMaskedEqual, ~uint64_t{3}, 4}));
  EXPECT_FALSE(FitsIn32Bits({0, Compare::kMaskedEqual, UINT64_MAX, 1ULL << 40}));
  EXPECT_FALSE(FitsIn32Bits({0, Compare::kMaskedEqual, 1ULL << 40, 0}));
  EXPECT_TRUE(IsNoOp({0, Compare::kMaskedEqual, 0, 7}));
  EXPECT_FALSE(IsNoOp({0, Compare::kGreaterOrEqual, 0, 0}));
}

}  // namespace
}  // namespace oakum::oci
