// The check of "dns", "resolve" and "resolvers". Private to policy/.
#ifndef OAKUM_POLICY_CHECK_DNS_H_
#define OAKUM_POLICY_CHECK_DNS_H_

#include <array>
#include <string_view>

#include "policy/check_context.h"
#include "policy/checked.h"
#include "policy/syntax.h"

namespace oakum::policy {

inline constexpr size_t kMaxResolvers = 64;  // of one policy

inline constexpr std::array<std::string_view, 3> kDnsWords = {"allow", "deny", "proxy"};

// `proxy` is the policy's own, null when it has none or names one that there is not; `otherwise` is
// its "outgoing.default".
[[nodiscard]] DnsSettings CheckDns(const syntax::Policy& policy, Verdict otherwise,
                                   const Proxy* proxy, CheckContext& context);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECK_DNS_H_
