// Container rules against a container.
#ifndef OAKUM_POLICY_CONTAINER_MATCH_H_
#define OAKUM_POLICY_CONTAINER_MATCH_H_

#include "policy/checked.h"
#include "policy/container.h"

namespace oakum::policy {

// Whether every pattern of the rule matches. A fact that the engine did not give matches no
// pattern, not even "*".
[[nodiscard]] bool Matches(const CheckedContainerRule& rule, const ContainerFacts& facts);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CONTAINER_MATCH_H_
