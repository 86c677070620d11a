#include "policy/container_match.h"

#include <algorithm>

#include "policy/glob.h"

namespace oakum::policy {

namespace {

// Keys of ContainerFacts::unknown, as rules spell them.
constexpr char kName[] = "name";
constexpr char kImage[] = "image";
constexpr char kLabel[] = "label";

bool MatchesFact(const std::optional<std::string>& pattern, const std::string& fact) {
  return !pattern || (!fact.empty() && MatchesGlob(*pattern, fact));
}

bool MatchesKeys(const std::vector<KeyPattern>& patterns,
                 const std::map<std::string, std::string>& facts) {
  return std::all_of(patterns.begin(), patterns.end(), [&](const KeyPattern& wanted) {
    const auto found = facts.find(wanted.key);
    return found != facts.end() && MatchesGlob(wanted.pattern, found->second);
  });
}

}  // namespace

bool Matches(const CheckedContainerRule& rule, const ContainerFacts& facts) {
  return (facts.unknown.contains(kName) || MatchesFact(rule.name, facts.name)) &&
         (facts.unknown.contains(kImage) || MatchesFact(rule.image, facts.image)) &&
         MatchesFact(rule.ns, facts.ns) && MatchesFact(rule.pod, facts.pod) &&
         MatchesFact(rule.engine, facts.engine) && MatchesFact(rule.id, facts.id) &&
         MatchesKeys(rule.annotations, facts.annotations) &&
         (facts.unknown.contains(kLabel) || MatchesKeys(rule.labels, facts.labels));
}

const std::pair<const std::string, std::string>* UnknownFact(const CheckedContainerRule& rule,
                                                             const ContainerFacts& facts) {
  for (const auto& entry : facts.unknown) {
    if ((entry.first == kName && rule.name) || (entry.first == kImage && rule.image) ||
        (entry.first == kLabel && !rule.labels.empty())) {
      return &entry;
    }
  }
  return nullptr;
}

}  // namespace oakum::policy
