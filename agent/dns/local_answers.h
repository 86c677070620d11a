// What is answered without asking anybody.
#ifndef OAKUM_AGENT_DNS_LOCAL_ANSWERS_H_
#define OAKUM_AGENT_DNS_LOCAL_ANSWERS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "agent/dns/message.h"
#include "agent/dns/names.h"
#include "agent/dns/resolv_conf.h"
#include "policy/proxy.h"

namespace oakum::agent::dns {

// Of synthetic addresses, in seconds: programs that ask again get the same one anyway.
inline constexpr uint32_t kSyntheticTtl = 10;

// The answer to `query` under "dns": "proxy", or nothing where the way in `resolve` has to find it.
//
// Whatever the way: what ReadQuery refuses, and classes other than IN and zone transfers (REFUSED);
// "localhost" and what is below it are loopback, "invalid" does not exist (RFC 6761 sections 6.3
// and 6.4); "use-application-dns.net" does not exist, which tells browsers to keep to this
// resolver; nor do names whose last label is a number, since a proxy would take them for addresses
// (RFC 3696 section 2) that no rule has seen; PTR of synthetic addresses. Names below "onion" get
// synthetic addresses but with kServer, where they do not exist (RFC 7686 section 2).
//
// kSynthetic answers everything: A and AAAA of every host name but those that a search list has
// made (IsSearched); other types of such a name do not exist (NOERROR without records); PTR of
// other addresses and what is no host name do not exist (NXDOMAIN).
[[nodiscard]] std::optional<std::string> LocalAnswer(const Query& query, policy::Resolve resolve,
                                                     const ResolvConf& conf, Names& names,
                                                     size_t limit);

// Whether a resolver with this configuration asks for `name` only because it tries its search list
// before the name itself: a name with dots, but fewer than "ndots", and one of the list's domains.
// Kubernetes says ndots:5, and the first of its list would take every name of the outside world.
[[nodiscard]] bool IsSearched(std::string_view name, const ResolvConf& conf);

// Whether a proxy could read a name as an IP address: its last label is a number, in any of the
// ways of inet_aton(3).
[[nodiscard]] bool LooksLikeAddress(std::string_view name);

// Whether `name` is `domain` or below it.
[[nodiscard]] bool IsWithin(std::string_view name, std::string_view domain);

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_LOCAL_ANSWERS_H_
