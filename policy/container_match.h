// Container rules against a container.
#ifndef OAKUM_POLICY_CONTAINER_MATCH_H_
#define OAKUM_POLICY_CONTAINER_MATCH_H_

#include <string>
#include <utility>

#include "policy/checked.h"
#include "policy/container.h"

namespace oakum::policy {

// Whether every pattern of the rule matches, or may match for all we know. A fact that the
// container does not have matches no pattern, not even "*"; one of `facts.unknown` matches every
// pattern.
[[nodiscard]] bool Matches(const CheckedContainerRule& rule, const ContainerFacts& facts);

// The first entry of `facts.unknown` that the rule asks for, null when there is none.
[[nodiscard]] const std::pair<const std::string, std::string>* UnknownFact(
    const CheckedContainerRule& rule, const ContainerFacts& facts);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CONTAINER_MATCH_H_
