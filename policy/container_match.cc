#include "policy/container_match.h"

#include <algorithm>

#include "policy/glob.h"

namespace oakum::policy {

namespace {

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
  return MatchesFact(rule.name, facts.name) && MatchesFact(rule.image, facts.image) &&
         MatchesFact(rule.ns, facts.ns) && MatchesFact(rule.pod, facts.pod) &&
         MatchesFact(rule.engine, facts.engine) && MatchesFact(rule.id, facts.id) &&
         MatchesKeys(rule.annotations, facts.annotations) && MatchesKeys(rule.labels, facts.labels);
}

}  // namespace oakum::policy
