#include "oci/seccomp_effect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace oakum::oci {

namespace {

struct Numbered {
  EffectiveRule rule;
  size_t entry;  // index in `syscalls`
};

Expected<void> RefuseConflicts(const std::vector<Numbered>& rules) {
  for (size_t i = 0; i < rules.size(); ++i) {
    for (size_t j = i + 1; j < rules.size(); ++j) {
      if (rules[i].rule.action != rules[j].rule.action &&
          Overlap(rules[i].rule.region, rules[j].rule.region)) {
        return MakeError(
            EINVAL, fmt::format("syscalls[{}] and syscalls[{}] give different actions to the same "
                                "arguments, and which one wins is up to libseccomp",
                                rules[i].entry, rules[j].entry));
      }
    }
  }
  return {};
}

}  // namespace

Expected<Effect> EffectOf(const SeccompSection& section, std::string_view name, bool has_32_bit) {
  std::vector<Numbered> numbered;
  for (size_t entry = 0; entry < section.rules.size(); ++entry) {
    const SeccompRule& rule = section.rules[entry];
    if (rule.action == section.default_action ||
        std::ranges::find(rule.names, name) == rule.names.end()) {
      continue;
    }
    for (const std::vector<ArgCondition>& conditions : Alternatives(rule)) {
      if (std::ranges::all_of(conditions, IsNoOp)) {
        return Effect{{EffectiveRule{kAnyArgs, rule.action, {}}}};
      }
      if (has_32_bit && !std::ranges::all_of(conditions, FitsIn32Bits)) {
        return MakeError(EINVAL,
                         fmt::format("syscalls[{}] compares with more than 32 bits, which a 32-bit "
                                     "architecture in `architectures` reads differently",
                                     entry));
      }
      const auto regions = ToRegions(conditions);
      if (!regions) {
        return MakeError(regions.error().code,
                         fmt::format("syscalls[{}]: {}", entry, regions.error().what));
      }
      for (const ArgRegion& region : *regions) {
        numbered.push_back({{region, rule.action, conditions}, entry});
      }
    }
  }
  std::vector<std::vector<ArgCondition>> lists;
  lists.reserve(numbered.size());
  for (const Numbered& item : numbered) {
    lists.push_back(item.rule.conditions);
  }
  if (MayCorruptTree(lists)) {
    return MakeError(EINVAL,
                     "its rules have inequalities before their last arguments, from which "
                     "libseccomp builds a wrong filter");
  }
  if (auto conflicts = RefuseConflicts(numbered); !conflicts) {
    return std::unexpected(conflicts.error());
  }
  Effect effect;
  for (Numbered& item : numbered) {
    effect.rules.push_back(std::move(item.rule));
  }
  return effect;
}

Expected<std::vector<ArgRegion>> Undecided(const Effect& effect, const ArgRegion& within) {
  std::vector<ArgRegion> decided;
  decided.reserve(effect.rules.size());
  for (const EffectiveRule& rule : effect.rules) {
    decided.push_back(rule.region);
  }
  return Subtract(within, decided);
}

}  // namespace oakum::oci
