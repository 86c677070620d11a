// The check of address rules and of rules for names. Private to policy/.
#ifndef OAKUM_POLICY_CHECK_RULES_H_
#define OAKUM_POLICY_CHECK_RULES_H_

#include <span>
#include <string_view>

#include "policy/check_context.h"
#include "policy/checked.h"
#include "policy/syntax.h"

namespace oakum::policy {

// The proxies that there are, and the one of the policy (null for none).
struct ProxyChoice {
  const Proxies& all;
  const Proxy* own = nullptr;
};

// Adds the rules of "outgoing" to checked.outgoing and checked.outgoing_names.
void CheckOutgoingRules(const syntax::Section& section, const ProxyChoice& proxies,
                        CheckedPolicy& checked, CheckContext& context);
void CheckIncomingRules(const syntax::Section& section, CheckedPolicy& checked,
                        CheckContext& context);

// `; did you mean "tor"?`, for the name of a proxy that there is not.
[[nodiscard]] std::string SuggestProxy(std::string_view name, const Proxies& proxies);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECK_RULES_H_
