// A policy in the form in which it answers questions. Private to policy/.
#ifndef OAKUM_POLICY_COMPILED_H_
#define OAKUM_POLICY_COMPILED_H_

#include <memory>
#include <string>
#include <vector>

#include "policy/checked.h"
#include "policy/name_index.h"
#include "policy/rule_index.h"

namespace oakum::policy {

struct CompiledPolicy {
  CheckedPolicy source;  // the rules that the indexes below refer to
  std::shared_ptr<const std::vector<std::string>> files;  // names, by Place::file

  RuleIndex index;
  // Outgoing rules. `everywhere` are those of `addresses` for every address of a family: what also
  // counts for an address that stands for a name.
  struct Outgoing {
    RuleIndex::Tree addresses;
    RuleIndex::Tree everywhere;
    NameIndex names;
  };
  Outgoing outgoing;
  // With DnsRule::kDeny and kProxy, what counts for port 53: rules that deny, and others that name
  // it.
  Outgoing outgoing_dns;
  // For bind and listen: `from` says who may connect, so that an allow rule with `from` allows to
  // listen and a deny rule with `from` does not forbid it.
  RuleIndex::Tree listening;
  // Deny rules for udp on particular local addresses, as if they said "*": a socket bound to the
  // wildcard address would receive what they forbid, with no accept in between.
  RuleIndex::Tree udp_wildcard;
  std::vector<AddressRule> udp_wildcard_rules;
  std::vector<uint32_t> udp_wildcard_ids;  // the rule in source.incoming for each of those
  PeerIndex peers;
  std::vector<uint32_t> unix_order;  // rules in source.unix_rules, the most specific first

  std::string outgoing_default_text;
  std::string incoming_default_text;
  std::string unix_default_text;
  bool redirects = false;            // some rule does, or the default
  bool redirects_datagrams = false;  // the same, for udp
  bool guards_incoming = false;
  bool guards_peers = false;
  bool guards_unix = false;
  std::vector<std::string> denied_unix_paths;
  bool denies_unix_patterns = false;
};

[[nodiscard]] std::shared_ptr<const CompiledPolicy> Compile(
    CheckedPolicy checked, std::shared_ptr<const std::vector<std::string>> files);

// Whether port 53, and all of Docker's resolver, is closed but for rules that say otherwise.
[[nodiscard]] bool ClosesDns(const CheckedPolicy& policy);
// Whether the rule says otherwise for port 53: what counts there under such a policy.
[[nodiscard]] bool CountsForDns(const AddressRule& rule);
// 127.0.0.11, where Docker's resolver listens on port 53 and on one that it chooses, tcp and udp.
[[nodiscard]] bool IsDockerResolver(const IpAddress& ip);
// Whether the address is one of those that stand for names under this policy.
[[nodiscard]] bool IsSynthetic(const CheckedPolicy& policy, const IpAddress& ip);

// Whether unix rule `a` beats `b` where both match: the longer literal start, then no wildcard over
// one, then the longer pattern, then deny over allow.
[[nodiscard]] bool BeatsUnix(const UnixRule& a, const UnixRule& b);

// Names of what decides when it is not a rule of the operator's: Decision::rule.
inline constexpr std::string_view kDnsDenyText = "dns deny";
inline constexpr std::string_view kDnsAllowText = "dns allow";
inline constexpr std::string_view kDnsProxyText = "dns proxy";
inline constexpr std::string_view kDnsUnknownText = "dns unknown address";
inline constexpr std::string_view kEphemeralText = "incoming ephemeral";
inline constexpr std::string_view kUnixLocalText = "unix local";
inline constexpr std::string_view kUnixLinksText = "unix hard link";
inline constexpr std::string_view kSocketText = "socket";
inline constexpr std::string_view kIoUringText = "io_uring";

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_COMPILED_H_
