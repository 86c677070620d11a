// Algebra of sets of system call arguments: what libseccomp's argument comparisons can describe.
#ifndef OAKUM_OCI_ARG_CONDITION_H_
#define OAKUM_OCI_ARG_CONDITION_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "oci/register_set.h"
#include "oci/seccomp_plan.h"

namespace oakum::oci {

// A system call has at most six arguments (syscall(2)); a condition names one of them.
inline constexpr size_t kArgCount = 6;

// A non-empty set of argument combinations: one register set for each argument, all of which hold.
using ArgRegion = std::array<RegisterSet, kArgCount>;

inline constexpr ArgRegion kAnyArgs = {};
// What a profile or a plan can make one system call's regions grow to; the kernel takes 4096
// instructions for the whole filter (BPF_MAXINSNS), so more than this could not be loaded anyway.
inline constexpr size_t kMaxRegions = 1024;

// The regions of `conditions`, all of which must hold; none when they contradict each other.
// Errors: EINVAL for an index beyond 5, or two conditions on one argument (libseccomp takes one).
[[nodiscard]] Expected<std::vector<ArgRegion>> ToRegions(std::span<const ArgCondition> conditions);
// Pairwise disjoint regions, as with register sets. Errors: E2BIG beyond kMaxRegions.
[[nodiscard]] Expected<std::vector<ArgRegion>> Intersect(const ArgRegion& x, const ArgRegion& y);
// What is in `x` and in none of `holes`. Errors: E2BIG beyond kMaxRegions.
[[nodiscard]] Expected<std::vector<ArgRegion>> Subtract(const ArgRegion& x,
                                                        std::span<const ArgRegion> holes);
[[nodiscard]] bool IsSubset(const ArgRegion& x, const ArgRegion& y);
[[nodiscard]] bool Overlap(const ArgRegion& x, const ArgRegion& y);

// The region as rules of libseccomp: each inner list holds at most one condition for each
// argument, and their union is the region. Errors: E2BIG beyond kMaxRegions.
[[nodiscard]] Expected<std::vector<std::vector<ArgCondition>>> ToRules(const ArgRegion& region);

// Whether the condition means the same to an architecture whose registers libseccomp compares with
// 32 bits (it drops the upper half of value and mask) as to one with 64.
[[nodiscard]] bool FitsIn32Bits(const ArgCondition& condition);

// libseccomp keeps the rules of one system call in a tree of comparisons of 32-bit words, by
// argument index. In it `!=` and the four inequalities have two ways to hold, which share what
// comes after them, so that a second rule that is threaded into what is shared corrupts the tree:
// it then loops for ever (seen with 2.5.4: {arg0 <= 2, arg1 > 0} and {arg0 <= 2, arg1 == 0}) or
// decides wrongly. This says whether `rules` (the condition lists of one system call) may meet
// that: more than one of them has such a comparison before its last argument.
[[nodiscard]] bool MayCorruptTree(std::span<const std::vector<ArgCondition>> rules);
// The rule as several in which only the last argument has such a comparison. Errors: E2BIG.
[[nodiscard]] Expected<std::vector<std::vector<ArgCondition>>> ToTreeRules(
    std::vector<ArgCondition> rule);

// Whether libseccomp generates no comparison for the condition: a rule with only such conditions
// counts as unconditional. (A comparison that every value satisfies, as >= 0, is generated.)
[[nodiscard]] bool IsNoOp(const ArgCondition& condition);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_ARG_CONDITION_H_
