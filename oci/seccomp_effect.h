// What a seccomp section really does with one system call once libseccomp has taken its rules.
#ifndef OAKUM_OCI_SECCOMP_EFFECT_H_
#define OAKUM_OCI_SECCOMP_EFFECT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "oci/arg_condition.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

// The rules of a section by the system call they are for. Refers to the section.
class NamedRules {
 public:
  explicit NamedRules(const SeccompSection& section);

  [[nodiscard]] const SeccompSection& section() const { return section_; }
  // Names in rules that the runtimes do not skip, sorted, each once.
  [[nodiscard]] const std::vector<std::string_view>& names() const { return names_; }
  // Whether some such rule is for the system call.
  [[nodiscard]] bool Has(std::string_view name) const { return !For(name).empty(); }
  // Each of them as (name, index in section().rules), in the order of the rules.
  using Entry = std::pair<std::string_view, uint32_t>;
  [[nodiscard]] std::span<const Entry> For(std::string_view name) const;

 private:
  const SeccompSection& section_;
  std::vector<Entry> entries_;  // sorted
  std::vector<std::string_view> names_;
};

// Calls in `region` get `action`.
struct EffectiveRule {
  ArgRegion region;
  SeccompAction action;
  std::vector<ArgCondition> conditions;  // as written; empty: every call
  bool rest = false;                     // only those that are in no other rule's region
};

// Two rules that come last and take what the `others` (condition lists) of a system call leave.
// Each comparison in a filter costs the runtimes time whenever they start a container, so it is
// better to name what is allowed than all that is not.
//
// libseccomp tries the comparisons of a level of its tree by argument, the highest first, then by
// operator, then by value, the greatest first, and equal ones in the order in which they were added
// (_db_chain_lt and _db_tree_add in its db.c, 2.4 to 2.6); where one leads to nothing, the next is
// tried. So a comparison with 0 of one bit of the lowest argument that any of the others looks at
// comes behind them all, and that of the same bit with 1 takes nothing from them if none of them
// can hold where it is set. If some libseccomp saw that otherwise, more calls would get the
// action of these two, and none that of another rule.
// The bit that does for both; nothing where none does.
struct RestBit {
  uint32_t index = 0;  // of the argument
  uint64_t bit = 0;    // a power of two below 2^32
};
[[nodiscard]] std::optional<RestBit> FindRestBit(std::span<const std::vector<ArgCondition>> others);
// The condition lists of the two, in the order in which they must stand.
[[nodiscard]] std::vector<std::vector<ArgCondition>> RestRules(const RestBit& rest);

// The decisions for one system call. Rules with different actions are disjoint, but for one that
// has the rest; calls in none of them get the section's default action.
struct Effect {
  std::vector<EffectiveRule> rules;

  // Whether one rule decides every call, which makes libseccomp ignore all others.
  [[nodiscard]] bool IsUnconditional() const {
    return rules.size() == 1 && rules[0].conditions.empty();
  }
};

// Computes the decisions for the system call `name`. What the runtimes and libseccomp do:
// - a rule whose action, errno included, is the default action is skipped;
// - a rule with several conditions on one argument is as many rules, one for each condition;
// - the first rule without conditions wins over all others, earlier and later;
// - rules with conditions are alternatives; where two with different actions overlap, the winner
//   depends on how libseccomp sorts its tree (argument, operator, value), so that is refused, but
//   for two last rules with SCMP_ACT_NOTIFY that are RestRules() of all others.
// With `has_32_bit` some architecture compares only the lower halves of the registers.
// Errors: EINVAL, "syscalls[N] and syscalls[M] ..."; E2BIG.
[[nodiscard]] Expected<Effect> EffectOf(const NamedRules& rules, std::string_view name,
                                        bool has_32_bit);

// The calls in `within` that no rule of `effect` decides. Errors: E2BIG.
[[nodiscard]] Expected<std::vector<ArgRegion>> Undecided(const Effect& effect,
                                                         const ArgRegion& within);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_EFFECT_H_
