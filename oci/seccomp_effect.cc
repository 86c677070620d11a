#include "oci/seccomp_effect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace oakum::oci {

namespace {

struct Numbered {
  EffectiveRule rule;
  size_t entry;  // index in `syscalls`
};

Expected<void> RefuseConflicts(const std::vector<Numbered>& rules) {
  for (size_t i = 0; i < rules.size(); ++i) {
    for (size_t j = i + 1; j < rules.size(); ++j) {
      if (rules[i].rule.action != rules[j].rule.action && !rules[i].rule.rest &&
          !rules[j].rule.rest && Overlap(rules[i].rule.region, rules[j].rule.region)) {
        return MakeError(
            EINVAL, fmt::format("syscalls[{}] and syscalls[{}] give different actions to the same "
                                "arguments, and which one wins is up to libseccomp",
                                rules[i].entry, rules[j].entry));
      }
    }
  }
  return {};
}

// Whether `rules`, of one system call, end with two that have the rest.
void MarkRest(std::vector<Numbered>& rules) {
  if (rules.size() < 3) {
    return;
  }
  const std::span all(rules);
  const auto last = all.last(2);
  if (!std::ranges::all_of(last, [](const Numbered& item) {
        return item.rule.action.kind == ActionKind::kNotify;
      })) {
    return;
  }
  std::vector<std::vector<ArgCondition>> others;
  for (const Numbered& item : all.first(all.size() - last.size())) {
    if (item.rule.action == last[0].rule.action) {
      return;
    }
    others.push_back(item.rule.conditions);
  }
  if (const auto bit = FindRestBit(others); bit) {
    const auto expected = RestRules(*bit);
    if (last[0].rule.conditions == expected[0] && last[1].rule.conditions == expected[1]) {
      last[1].rule.rest = true;
    }
  }
}

}  // namespace

std::optional<RestBit> FindRestBit(std::span<const std::vector<ArgCondition>> others) {
  std::optional<uint32_t> index;
  std::vector<ArgRegion> regions;
  for (const std::vector<ArgCondition>& conditions : others) {
    const auto found = ToRegions(conditions);
    if (conditions.empty() || !found) {
      return std::nullopt;
    }
    const ArgCondition& first = *std::ranges::min_element(conditions, {}, &ArgCondition::index);
    // All look at the same argument first, and by an operator that goes before others.
    if ((index && *index != first.index) ||
        (first.compare != Compare::kEqual && first.compare != Compare::kMaskedEqual)) {
      return std::nullopt;
    }
    index = first.index;
    std::ranges::copy(*found, std::back_inserter(regions));
  }
  if (!index) {
    return std::nullopt;
  }
  for (uint64_t bit = uint64_t{1} << 31; bit != 0; bit >>= 1) {
    ArgRegion set = kAnyArgs;
    set[*index] = {RegisterSet::Shape::kMasked, bit, bit};
    if (std::ranges::none_of(regions,
                             [&](const ArgRegion& region) { return Overlap(region, set); })) {
      return RestBit{*index, bit};
    }
  }
  return std::nullopt;
}

std::vector<std::vector<ArgCondition>> RestRules(const RestBit& rest) {
  return {{{rest.index, Compare::kMaskedEqual, rest.bit, rest.bit}},
          {{rest.index, Compare::kMaskedEqual, rest.bit, 0}}};
}

NamedRules::NamedRules(const SeccompSection& section) : section_(section) {
  for (uint32_t entry = 0; entry < section.rules.size(); ++entry) {
    const SeccompRule& rule = section.rules[entry];
    if (rule.action != section.default_action) {
      for (const std::string& name : rule.names) {
        entries_.emplace_back(name, entry);
      }
    }
  }
  // Profiles have long runs in order.
  std::ranges::stable_sort(entries_, {}, &Entry::first);
  const auto repeated = std::ranges::unique(entries_);
  entries_.erase(repeated.begin(), repeated.end());
  for (const Entry& entry : entries_) {
    if (names_.empty() || names_.back() != entry.first) {
      names_.push_back(entry.first);
    }
  }
}

std::span<const NamedRules::Entry> NamedRules::For(std::string_view name) const {
  const auto found = std::ranges::equal_range(entries_, name, {}, &Entry::first);
  return {found.begin(), found.end()};
}

Expected<Effect> EffectOf(const NamedRules& rules, std::string_view name, bool has_32_bit) {
  std::vector<Numbered> numbered;
  for (const auto& [same_name, entry] : rules.For(name)) {
    const SeccompRule& rule = rules.section().rules[entry];
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
  MarkRest(numbered);
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
