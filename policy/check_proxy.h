// The check of proxies, and of what has to be spoken to them. Private to policy/.
#ifndef OAKUM_POLICY_CHECK_PROXY_H_
#define OAKUM_POLICY_CHECK_PROXY_H_

#include <array>
#include <optional>
#include <string_view>

#include "policy/check_context.h"
#include "policy/checked.h"
#include "policy/syntax.h"

namespace oakum::policy {

inline constexpr uint32_t kMaxProxyTimeout = 3600;  // seconds

inline constexpr std::array<std::string_view, 5> kIsolations = {"none", "container", "process",
                                                                "destination", "connection"};
inline constexpr std::array<std::string_view, 2> kCredentialFormats = {"password", "tor"};
inline constexpr std::array<std::string_view, 3> kProxyFroms = {"auto", "container", "host"};
inline constexpr std::array<std::string_view, 2> kHandshakes = {"socks5", "http"};
inline constexpr std::array<std::string_view, 4> kAuths = {"any", "none", "password", "tor"};

[[nodiscard]] Proxy CheckProxy(const syntax::Proxy& proxy, CheckContext& context);

// `proxy` is the policy's own, null when it has none or names one that there is not.
[[nodiscard]] std::optional<HandshakeRules> CheckHandshake(const syntax::Policy& policy,
                                                           const Proxy* proxy,
                                                           CheckContext& context);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECK_PROXY_H_
