#include "oci/seccomp_merger.h"

#include <fmt/format.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <string>

#include "oci/arg_condition.h"
#include "oci/multiplexer.h"

namespace oakum::oci {

namespace {

// Errnos for what has to differ from the default action, in the order of preference.
constexpr std::array<uint16_t, 3> kOtherErrnos = {ENOSYS, EPERM, EACCES};

// How many rules RestRules are.
constexpr ptrdiff_t kRestRules = 2;

template <typename IsTaken>
uint16_t FreeErrno(uint16_t wanted, IsTaken is_taken) {
  if (!is_taken(wanted)) {
    return wanted;
  }
  const auto* found = std::ranges::find_if_not(kOtherErrnos, is_taken);
  return found == kOtherErrnos.end() ? wanted : *found;
}

}  // namespace

SeccompMerger::SeccompMerger(const SeccompSection& section, CheckedPlan plan)
    : section_(section), rules_(section), plan_(std::move(plan)) {
  std::vector<std::string> tokens = section.architectures;
  if (const SeccompArch* native = NativeArch(); native != nullptr) {
    tokens.emplace_back(native->token);  // libseccomp's filters always have it
  }
  for (const std::string& token : tokens) {
    const SeccompArch* arch = FindArch(token);  // never null: the section was checked
    has_32_bit_ |= arch->is_32_bit;
    has_multiplexers_ |= arch->has_multiplexers;
  }
  if (plan_.others_errno) {
    std::unordered_set<std::string_view> named;
    for (const PlannedSyscall& planned : plan_.syscalls) {
      named.insert(planned.name);
    }
    std::vector<PlannedSyscall> others;
    for (const std::string_view name : rules_.names()) {
      if (!named.contains(name)) {
        others.push_back(
            {std::string(name), {{kAnyArgs, FilterAction::kErrno, *plan_.others_errno}}, {}});
      }
    }
    std::ranges::move(others, std::back_inserter(plan_.syscalls));
  }
  default_after_ = DefaultAfter();
  if (!has_multiplexers_ || default_after_.kind != ActionKind::kErrno) {
    return;
  }
  // A rule that says the default would be skipped, and libseccomp then derives others in its place.
  for (PlannedSyscall& planned : plan_.syscalls) {
    if (FindMultiplexer(planned.name) != nullptr && planned.Unconditional() != nullptr &&
        planned.branches[0].action == FilterAction::kErrno) {
      planned.branches[0].errno_value =
          FreeErrno(planned.branches[0].errno_value,
                    [&](uint16_t value) { return value == default_after_.data; });
    }
  }
}

SeccompAction SeccompMerger::DefaultAfter() const {
  if (!plan_.others_errno || !section_.default_action.Lets()) {
    return section_.default_action;
  }
  // For the same reason it must not be what the section says of a multiplexer.
  const auto is_taken = [&](uint16_t value) {
    return has_multiplexers_ &&
           std::ranges::any_of(Multiplexers(), [&](const Multiplexer& multiplexer) {
             return std::ranges::any_of(rules_.For(multiplexer.name), [&](const auto& entry) {
               return section_.rules[entry.second].action ==
                      SeccompAction{ActionKind::kErrno, value};
             });
           });
  };
  return {ActionKind::kErrno, FreeErrno(*plan_.others_errno, is_taken)};
}

bool SeccompMerger::IsMultiplexed(const PlannedSyscall& planned) const {
  return has_multiplexers_ && FindMultiplexer(planned.name) != nullptr &&
         (ChangesDefault() || !planned.IsAllowed());
}

Expected<MergedRules> SeccompMerger::Merge(bool by_rest) const {
  MergedRules merged{default_after_, {}, {}, {}};
  Plain plain;
  for (const PlannedSyscall& planned : plan_.syscalls) {
    if (planned.IsAllowed() && !ChangesDefault()) {
      continue;
    }
    const bool first = IsMultiplexed(planned);
    auto rules = first ? MergeMultiplexer(planned) : MergeSyscall(planned, by_rest);
    if (!rules) {
      return std::unexpected(std::move(rules.error()).Context(planned.name));
    }
    merged.decided.insert(planned.name);
    if (!first && rules->size() == 1 && rules->front().conditions.empty() &&
        rules->front().action.kind != ActionKind::kNotify) {
      const SeccompAction action = rules->front().action;
      const auto same = std::ranges::find(plain, action, &Plain::value_type::first);
      if (same == plain.end()) {
        plain.push_back({action, {planned.name}});
      } else {
        same->second.push_back(planned.name);
      }
    } else if (auto emitted =
                   Emit(planned.name, *std::move(rules), first ? merged.first : merged.others);
               !emitted) {
      return std::unexpected(std::move(emitted.error()).Context(planned.name));
    }
  }
  for (const auto& [action, names] : plain) {
    Json entry = ToJson("", action, {});
    entry["names"] = names;
    merged.others.push_back(std::move(entry));
  }
  if (auto checked = RequireMultiplexers(); !checked) {
    return std::unexpected(checked.error());
  }
  return merged;
}

Expected<std::vector<SeccompMerger::Rule>> SeccompMerger::MergeSyscall(
    const PlannedSyscall& planned, bool by_rest) const {
  if (seccomp_syscall_resolve_name(planned.name.c_str()) == __NR_SCMP_ERROR) {
    // The runtimes skip rules for such names, which only a default action that refuses makes up
    // for.
    if (!default_after_.Lets()) {
      return std::vector<Rule>();
    }
    return MakeError(EINVAL, "libseccomp does not know it, so that no filter can refuse it");
  }
  const auto effect = EffectOf(rules_, planned.name, has_32_bit_);
  if (!effect) {
    return std::unexpected(effect.error());
  }
  const bool rest = by_rest && LeavesNothing(*effect, planned);
  std::vector<Rule> rules;
  std::vector<Piece> pieces;
  for (const EffectiveRule& rule : effect->rules) {
    if (!rule.action.Lets()) {
      if (rule.action != default_after_) {
        rules.push_back({rule.action, rule.conditions});
      }
    } else if (auto cut = Cut(rule.region, rule.action, planned, rest, pieces); !cut) {
      return std::unexpected(cut.error());
    }
  }
  if (auto cut = CutRest(*effect, planned, pieces); !cut) {
    return std::unexpected(cut.error());
  }
  std::vector<Rule> asked;
  for (const Piece& piece : pieces) {
    auto lists = ToRules(piece.region);
    if (!lists) {
      return std::unexpected(lists.error());
    }
    std::vector<Rule>& to = piece.action.kind == ActionKind::kNotify ? asked : rules;
    for (std::vector<ArgCondition>& conditions : *lists) {
      to.push_back({piece.action, std::move(conditions)});
    }
  }
  if (rest && std::ssize(asked) > kRestRules) {
    std::vector<std::vector<ArgCondition>> others;
    others.reserve(rules.size());
    for (const Rule& rule : rules) {
      others.push_back(rule.conditions);
    }
    const auto bit = FindRestBit(others);
    if (!bit) {
      return MergeSyscall(planned, false);
    }
    const SeccompAction notify = asked.front().action;
    asked.clear();
    for (std::vector<ArgCondition>& conditions : RestRules(*bit)) {
      asked.push_back({notify, std::move(conditions)});
    }
  }
  std::ranges::move(asked, std::back_inserter(rules));
  return rules;
}

// Whether no call is left to the default action: each is one that some rule takes.
bool SeccompMerger::LeavesNothing(const Effect& effect, const PlannedSyscall& planned) const {
  if (default_after_.Lets() || section_.default_action.Lets()) {
    return false;
  }
  for (const EffectiveRule& rule : effect.rules) {
    if (!rule.action.Lets()
            ? rule.action == default_after_
            : std::ranges::any_of(planned.branches, [&](const PlannedBranch& branch) {
                return ActionOf(branch, rule.action) == default_after_;
              })) {
      return false;
    }
  }
  const auto undecided = Undecided(effect, kAnyArgs);
  return undecided && undecided->empty();
}

// What each branch of the plan makes of the calls in `region`, which `allowed` lets through.
// `rest`: of what is asked about no more pieces than show that the rules for the rest are fewer.
Expected<void> SeccompMerger::Cut(const ArgRegion& region, const SeccompAction& allowed,
                                  const PlannedSyscall& planned, bool rest,
                                  std::vector<Piece>& pieces) const {
  const auto is_asked = [](const Piece& piece) { return piece.action.kind == ActionKind::kNotify; };
  for (const PlannedBranch& branch : planned.branches) {
    const SeccompAction action = ActionOf(branch, allowed);
    if (action == default_after_) {
      continue;  // the runtimes skip such rules, and nothing else takes these calls
    }
    if (rest && action.kind == ActionKind::kNotify &&
        std::ranges::count_if(pieces, is_asked) > kRestRules) {
      continue;
    }
    const auto cut = Intersect(region, branch.region);
    if (!cut) {
      return std::unexpected(cut.error());
    }
    AddPieces(*cut, action, pieces);
  }
  return {};
}

// The same for the calls that the engine's default lets through.
Expected<void> SeccompMerger::CutRest(const Effect& effect, const PlannedSyscall& planned,
                                      std::vector<Piece>& pieces) const {
  if (!section_.default_action.Lets()) {
    return {};
  }
  for (const PlannedBranch& branch : planned.branches) {
    const SeccompAction action = ActionOf(branch, section_.default_action);
    if (action == default_after_) {
      continue;
    }
    const auto rest = Undecided(effect, branch.region);
    if (!rest) {
      return std::unexpected(rest.error());
    }
    AddPieces(*rest, action, pieces);
  }
  return {};
}

// The engine's rules may overlap each other, and so may branches with the same action: what is
// covered already is not said again. `regions` are disjoint, so they are compared only with what
// was there before them.
void SeccompMerger::AddPieces(const std::vector<ArgRegion>& regions, const SeccompAction& action,
                              std::vector<Piece>& pieces) {
  std::vector<Piece> added;
  added.reserve(regions.size());
  for (const ArgRegion& region : regions) {
    const auto covers = [&](const Piece& other) {
      return other.action == action && IsSubset(region, other.region);
    };
    if (std::ranges::any_of(pieces, covers)) {
      continue;
    }
    std::erase_if(pieces, [&](const Piece& other) {
      return other.action == action && IsSubset(other.region, region);
    });
    added.push_back({region, action});
  }
  pieces.insert(pieces.end(), added.begin(), added.end());
}

Expected<void> SeccompMerger::Emit(std::string_view name, std::vector<Rule> rules,
                                   std::vector<Json>& entries) const {
  std::vector<std::vector<ArgCondition>> lists;
  lists.reserve(rules.size());
  for (const Rule& rule : rules) {
    lists.push_back(rule.conditions);
  }
  const bool split = MayCorruptTree(lists);
  const size_t begin = entries.size();
  for (Rule& rule : rules) {
    const auto parts = split ? ToTreeRules(std::move(rule.conditions))
                             : Expected<decltype(lists)>({std::move(rule.conditions)});
    if (!parts) {
      return std::unexpected(parts.error());
    }
    for (const std::vector<ArgCondition>& conditions : *parts) {
      if (has_32_bit_ && !std::ranges::all_of(conditions, FitsIn32Bits)) {
        return MakeError(EINVAL,
                         "the rules would compare more than 32 bits, which a 32-bit architecture "
                         "in `architectures` reads differently");
      }
      entries.push_back(ToJson(name, rule.action, conditions));
    }
    if (entries.size() - begin > kMaxRegions) {
      return MakeError(E2BIG, fmt::format("needs more than {} rules", kMaxRegions));
    }
  }
  return {};
}

bool SeccompMerger::Reaches(std::string_view multiplexer) const {
  const Multiplexer* found = FindMultiplexer(multiplexer);
  return rules_.Has(multiplexer) ||
         std::ranges::any_of(found->calls, [&](std::string_view call) { return rules_.Has(call); });
}

// One rule without conditions, to stand first: libseccomp then drops whatever it would derive for
// the multiplexer from the rules of socket, sendto and so on, which could let calls through
// whatever their arguments.
Expected<std::vector<SeccompMerger::Rule>> SeccompMerger::MergeMultiplexer(
    const PlannedSyscall& planned) const {
  const PlannedBranch* branch = planned.Unconditional();
  if (branch == nullptr) {
    return MakeError(EINVAL,
                     "plan: its arguments cannot be told apart on architectures that have it");
  }
  const auto effect = EffectOf(rules_, planned.name, has_32_bit_);
  if (!effect) {
    return std::unexpected(effect.error());
  }
  SeccompAction before = section_.default_action;
  if (effect->IsUnconditional()) {
    before = effect->rules[0].action;
  } else if (Reaches(planned.name)) {
    return MakeError(
        EINVAL, fmt::format("the profile names system calls and an architecture that makes them "
                            "through {0}, but does not decide {0} itself: name it in `syscalls` "
                            "without conditions, or remove the architecture",
                            planned.name));
  }
  const SeccompAction after = before.Lets() ? ActionOf(*branch, before) : before;
  std::vector<Rule> rules;
  if (after != default_after_) {
    rules.push_back({after, {}});
  } else if (after.Lets()) {
    return MakeError(EINVAL,
                     "plan: lets it through, so that libseccomp would derive its rules from those "
                     "of other calls");
  }
  return rules;
}

// A plan that narrows calls and says nothing of their multiplexer would leave that way open.
Expected<void> SeccompMerger::RequireMultiplexers() const {
  if (!has_multiplexers_) {
    return {};
  }
  std::unordered_set<std::string_view> narrowed;
  for (const PlannedSyscall& planned : plan_.syscalls) {
    if (!planned.IsAllowed()) {
      narrowed.insert(planned.name);
    }
  }
  for (const Multiplexer& multiplexer : Multiplexers()) {
    const bool narrows_calls = std::ranges::any_of(
        multiplexer.calls, [&](std::string_view call) { return narrowed.contains(call); });
    if (narrows_calls && !narrowed.contains(multiplexer.name)) {
      return MakeError(EINVAL,
                       fmt::format("plan: names calls of {0} but not {0}", multiplexer.name));
    }
  }
  return {};
}

Expected<void> SeccompMerger::Verify() const {
  if (ChangesDefault()) {
    return MakeError(EINVAL, "the default action lets through what the policy does not allow");
  }
  std::unordered_set<std::string_view> names;
  for (const PlannedSyscall& planned : plan_.syscalls) {
    names.insert(planned.name);
    if (planned.IsAllowed() && !Notifies(planned.name)) {
      continue;
    }
    if (auto verified = VerifySyscall(planned); !verified) {
      return std::unexpected(std::move(verified.error()).Context(planned.name));
    }
  }
  for (const std::string_view name : rules_.names()) {
    if (!names.contains(name) && Notifies(name)) {
      return MakeError(
          EINVAL, fmt::format("{}: is notified, which the policy does not ask for", Escape(name)));
    }
  }
  return RequireMultiplexers();
}

bool SeccompMerger::Notifies(std::string_view name) const {
  return std::ranges::any_of(rules_.For(name), [&](const NamedRules::Entry& entry) {
    return section_.rules[entry.second].action.kind == ActionKind::kNotify;
  });
}

Expected<void> SeccompMerger::VerifySyscall(const PlannedSyscall& planned) const {
  const auto effect = EffectOf(rules_, planned.name, has_32_bit_);
  if (!effect) {
    return std::unexpected(effect.error());
  }
  if (IsMultiplexed(planned) && !effect->IsUnconditional() && Reaches(planned.name)) {
    return MakeError(EINVAL, "is not decided without conditions");
  }
  const auto agree = [](const PlannedBranch& branch, const SeccompAction& action) {
    return action.kind == ActionKind::kNotify ? branch.action == FilterAction::kNotify
           : action.Lets()                    ? branch.action == FilterAction::kAllow
                                              : true;
  };
  for (const PlannedBranch& branch : planned.branches) {
    for (const EffectiveRule& rule : effect->rules) {
      if (agree(branch, rule.action) || !Overlap(branch.region, rule.region)) {
        continue;
      }
      if (!rule.rest) {
        return MakeError(EINVAL, "is not decided as the policy asks");
      }
      // It takes what the others do not.
      Effect others;
      std::ranges::copy_if(effect->rules, std::back_inserter(others.rules),
                           [](const EffectiveRule& other) { return !other.rest; });
      const auto taken = Undecided(others, branch.region);
      if (!taken) {
        return std::unexpected(taken.error());
      }
      if (!taken->empty()) {
        return MakeError(EINVAL, "is not decided as the policy asks");
      }
    }
    if (agree(branch, section_.default_action)) {
      continue;
    }
    const auto rest = Undecided(*effect, branch.region);
    if (!rest) {
      return std::unexpected(rest.error());
    }
    if (!rest->empty()) {
      return MakeError(EINVAL, "is not decided as the policy asks");
    }
  }
  return {};
}

}  // namespace oakum::oci
