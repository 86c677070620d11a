#include "policy/filter_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>

#include "base/fnv.h"

namespace oakum::policy {

namespace {

using oci::FilterAction;
using oci::FilterBranch;

constexpr std::string_view kOthers = "*";
constexpr std::string_view kPasses = "none.a";
constexpr std::string_view kAsked = "all.n";

// The same in every build, which is all that is asked of it.
std::string Hash(std::string_view text) {
  const uint64_t hash = Fnv1a(text);
  return fmt::format("{:08x}", (hash >> 32) ^ (hash & 0xffffffff));
}

std::string Action(const FilterBranch& branch) {
  switch (branch.action) {
    case FilterAction::kAllow:
      return "a";
    case FilterAction::kNotify:
      return "n";
    case FilterAction::kErrno:
      return fmt::format("e{}", branch.errno_value);
  }
  return "e";
}

template <typename Number>
void AppendNumber(Number number, char behind, std::string& text) {
  std::array<char, std::numeric_limits<Number>::digits10 + 2> digits;
  const auto [end, error] = std::to_chars(digits.begin(), digits.end(), number);
  text.append(digits.begin(), end).push_back(behind);
}

std::string Conditions(const FilterBranch& branch) {
  std::string text;
  for (const oci::ArgCondition& condition : branch.conditions) {
    AppendNumber(condition.index, ' ', text);
    AppendNumber(static_cast<int>(condition.compare), ' ', text);
    AppendNumber(condition.value, ' ', text);
    AppendNumber(condition.value_two, ';', text);
  }
  return text;
}

void SortAndMakeUnique(std::vector<std::string>& texts) {
  std::ranges::sort(texts);
  texts.erase(std::ranges::unique(texts).begin(), texts.end());
}

// Of the texts as a set.
std::string HashOf(std::vector<std::string> texts) {
  SortAndMakeUnique(texts);
  std::string joined;
  for (const std::string& text : texts) {
    joined.append(joined.empty() ? "" : "|").append(text);
  }
  return Hash(joined);
}

// "SCOPE.ACTION" of one call. The order of branches means nothing.
std::string Treatment(const oci::SyscallPlan& plan) {
  std::vector<std::string> actions;
  std::vector<std::string> guarded;
  for (const FilterBranch& branch : plan.branches) {
    if (branch.action != FilterAction::kAllow) {
      actions.push_back(Action(branch));
      guarded.push_back(Conditions(branch));
    }
  }
  if (guarded.empty()) {
    return std::string(kPasses);
  }
  const bool passes = guarded.size() < plan.branches.size();
  SortAndMakeUnique(actions);
  std::string what = actions.front();
  if (actions.size() > 1) {
    std::vector<std::string> all;
    for (const FilterBranch& branch : plan.branches) {
      all.push_back(Conditions(branch) + Action(branch));
    }
    const bool refuses = std::ranges::any_of(
        actions, [](const std::string& action) { return action.starts_with('e'); });
    what = (refuses ? "x" : "c") + HashOf(std::move(all));
  }
  return fmt::format("{}.{}", passes ? HashOf(std::move(guarded)) : "all", what);
}

struct Parts {
  std::string_view scope;
  std::string_view action;
  [[nodiscard]] bool refuses() const { return action.starts_with('e') || action.starts_with('x'); }
};

Parts Split(std::string_view treatment) {
  const size_t dot = std::min(treatment.find('.'), treatment.size());
  return {treatment.substr(0, dot), treatment.substr(std::min(dot + 1, treatment.size()))};
}

std::string_view TreatmentOf(const FilterRecord& record, std::string_view call) {
  for (const std::string_view name : {call, kOthers}) {
    if (const auto found = record.calls.find(name); found != record.calls.end()) {
      return found->second;
    }
  }
  return kPasses;
}

enum class Gap : uint8_t { kNone, kUnseen, kRefused };

Gap Compare(std::string_view filter, std::string_view needed) {
  // Whatever the agent is asked about, it answers as the policy has it.
  if (filter == needed || filter == kAsked) {
    return Gap::kNone;
  }
  const Parts has = Split(filter);
  const Parts needs = Split(needed);
  if (needs.scope == "none") {
    return has.refuses() ? Gap::kRefused : Gap::kNone;
  }
  if (has.scope != needs.scope && has.scope != "all") {
    return Gap::kUnseen;
  }
  // Nothing passes that should not. With another errno is refused as well.
  const bool refused_by_both = has.action.starts_with('e') && needs.action.starts_with('e');
  return has.refuses() && !refused_by_both ? Gap::kRefused : Gap::kNone;
}

}  // namespace

FilterRecord RecordOf(const oci::SeccompPlan& plan) {
  FilterRecord record;
  for (const oci::SyscallPlan& call : plan.syscalls) {
    record.calls.insert_or_assign(call.name, Treatment(call));
  }
  if (plan.others_errno) {
    record.calls.insert_or_assign(std::string(kOthers), fmt::format("all.e{}", *plan.others_errno));
  }
  return record;
}

FilterGaps FindGaps(const FilterRecord& filter, const FilterRecord& needed) {
  std::set<std::string_view> names;
  for (const FilterRecord* record : {&filter, &needed}) {
    for (const auto& [name, treatment] : record->calls) {
      names.insert(name);
    }
  }
  FilterGaps gaps;
  for (const std::string_view name : names) {
    switch (Compare(TreatmentOf(filter, name), TreatmentOf(needed, name))) {
      case Gap::kNone:
        break;
      case Gap::kUnseen:
        gaps.unseen.emplace_back(name);
        break;
      case Gap::kRefused:
        gaps.refused.emplace_back(name);
        break;
    }
  }
  return gaps;
}

}  // namespace oakum::policy
