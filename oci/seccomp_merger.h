// What a plan makes of the rules of a seccomp section: the merge without its JSON document.
#ifndef OAKUM_OCI_SECCOMP_MERGER_H_
#define OAKUM_OCI_SECCOMP_MERGER_H_

#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "oci/json.h"
#include "oci/seccomp_effect.h"
#include "oci/seccomp_planned.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

struct MergedRules {
  SeccompAction default_action;
  // Rules, as elements of `syscalls`, that must stand before all others, and those that may stand
  // anywhere.
  std::vector<Json> first;
  std::vector<Json> others;
  // The system calls that they decide: what the section says of these has to go.
  std::unordered_set<std::string_view> decided;
};

// Refers to the section.
class SeccompMerger {
 public:
  SeccompMerger(const SeccompSection& section, CheckedPlan plan);

  // The plan with every system call that the section names. Where the plan has an errno for others,
  // those it does not name itself are refused with it.
  [[nodiscard]] const CheckedPlan& plan() const { return plan_; }

  // `by_rest`: where possible, what the agent is asked about is what no other rule takes
  // (RestRules), which runtimes load in less time. Errors: EINVAL when the rules cannot be merged
  // exactly; E2BIG.
  [[nodiscard]] Expected<MergedRules> Merge(bool by_rest) const;

  // Whether the section already does what the plan asks, with the agent notified of nothing else.
  [[nodiscard]] Expected<void> Verify() const;

 private:
  struct Piece {
    ArgRegion region;
    SeccompAction action;
  };
  struct Rule {
    SeccompAction action;
    std::vector<ArgCondition> conditions;
  };
  // Names that one rule without conditions decides, by its action.
  using Plain = std::vector<std::pair<SeccompAction, std::vector<std::string_view>>>;

  [[nodiscard]] bool ChangesDefault() const { return default_after_ != section_.default_action; }
  [[nodiscard]] SeccompAction DefaultAfter() const;
  Expected<std::vector<Rule>> MergeSyscall(const PlannedSyscall& planned, bool by_rest) const;
  [[nodiscard]] bool LeavesNothing(const Effect& effect, const PlannedSyscall& planned) const;
  Expected<void> Cut(const ArgRegion& region, const SeccompAction& allowed,
                     const PlannedSyscall& planned, bool rest, std::vector<Piece>& pieces) const;
  Expected<void> CutRest(const Effect& effect, const PlannedSyscall& planned,
                         std::vector<Piece>& pieces) const;
  static void AddPieces(const std::vector<ArgRegion>& regions, const SeccompAction& action,
                        std::vector<Piece>& pieces);
  Expected<void> Emit(std::string_view name, std::vector<Rule> rules,
                      std::vector<Json>& entries) const;
  // Whether some rule of the section becomes one for the multiplexer, or is one with conditions.
  [[nodiscard]] bool Reaches(std::string_view multiplexer) const;
  Expected<std::vector<Rule>> MergeMultiplexer(const PlannedSyscall& planned) const;
  [[nodiscard]] Expected<void> RequireMultiplexers() const;
  [[nodiscard]] Expected<void> VerifySyscall(const PlannedSyscall& planned) const;
  [[nodiscard]] bool Notifies(std::string_view name) const;
  // Whether it is a multiplexer that the merge has to decide.
  [[nodiscard]] bool IsMultiplexed(const PlannedSyscall& planned) const;

  const SeccompSection& section_;
  NamedRules rules_;
  CheckedPlan plan_;
  bool has_32_bit_ = false;
  bool has_multiplexers_ = false;
  SeccompAction default_after_;
};

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_MERGER_H_
