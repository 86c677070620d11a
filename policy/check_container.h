// The check of a container rule. Private to policy/.
#ifndef OAKUM_POLICY_CHECK_CONTAINER_H_
#define OAKUM_POLICY_CHECK_CONTAINER_H_

#include <span>
#include <string_view>

#include "policy/check_context.h"
#include "policy/checked.h"
#include "policy/syntax.h"

namespace oakum::policy {

// `policies`: the names that there are.
[[nodiscard]] CheckedContainerRule CheckContainerRule(const syntax::ContainerRule& rule,
                                                      std::span<const std::string_view> policies,
                                                      CheckContext& context);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECK_CONTAINER_H_
