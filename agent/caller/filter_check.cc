#include "agent/caller/filter_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "policy/plan.h"

namespace oakum::agent {

namespace {

// "strict" names hundreds.
constexpr size_t kMaxNamed = 12;

std::string List(std::span<const std::string> calls) {
  const auto named = calls.first(std::min(calls.size(), kMaxNamed));
  return fmt::format(
      "{}{}", fmt::join(named, ", "),
      calls.size() > kMaxNamed ? fmt::format(" and {} more", calls.size() - kMaxNamed) : "");
}

}  // namespace

const std::shared_ptr<const policy::FilterRecord>& FilterCheck::Needed(
    const std::shared_ptr<const policy::Policy>& policy) {
  auto& needed = needed_[policy];
  if (needed == nullptr) {
    needed = std::make_shared<policy::FilterRecord>(policy::RecordOf(policy::Plan(*policy)));
  }
  return needed;
}

void FilterCheck::Fill(EventSource& source, bool assume) {
  source.gaps = {};
  if (source.policy == nullptr) {
    return;
  }
  if (source.filter == nullptr && assume) {
    source.filter = Needed(source.policy);
  }
  if (source.filter != nullptr) {
    source.gaps = policy::FindGaps(*source.filter, *Needed(source.policy));
  }
}

std::string DescribeGaps(const policy::FilterGaps& gaps) {
  std::string text;
  if (!gaps.unseen.empty()) {
    text = fmt::format("lets pass what the policy wants to decide: {}", List(gaps.unseen));
  }
  if (!gaps.refused.empty()) {
    text += fmt::format("{}refuses what the policy wants to decide: {}", text.empty() ? "" : "; ",
                        List(gaps.refused));
  }
  return text;
}

}  // namespace oakum::agent
