// The policy files after every word has been understood and every reference resolved: what the
// compiler works from.
#ifndef OAKUM_POLICY_CHECKED_H_
#define OAKUM_POLICY_CHECKED_H_

#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/policy.h"
#include "policy/proxy.h"
#include "policy/proxy_url.h"
#include "policy/rule_text.h"
#include "policy/source.h"
#include "policy/syntax.h"

namespace oakum::policy {

inline constexpr size_t kMaxNameLength = 128;     // of a policy or proxy
inline constexpr size_t kMaxUnixRules = 4096;     // of one policy
inline constexpr size_t kMaxPatternLength = 512;  // of a unix rule or a container pattern

struct Place {
  uint32_t file = 0;
  Position position;

  bool operator==(const Place&) const = default;
};

// A rule for addresses, or for a name.
struct AddressRule {
  Verdict verdict = Verdict::kDeny;
  Prefix host;         // every address in a rule for a name
  std::string domain;  // lower case, without a final dot; "*.example.com": all names below it
  std::vector<PortRange> ports;  // as in ParsedRule
  bool names_dns = false;
  std::optional<Transport> transport;
  std::optional<Prefix> from;
  std::string text;  // Decision::rule
  Place place;
  Carry carry = Carry::kDirect;
  const Proxy* proxy = nullptr;  // of CheckedPolicy::proxies

  // How many ports it covers: 65536 when it names none.
  [[nodiscard]] uint32_t PortCount() const;
  // Whether it covers `port` of `transport`. Rules with ports never cover kOther, where ports have
  // no meaning.
  [[nodiscard]] bool Covers(uint16_t port, Transport with) const;
};

struct UnixRule {
  Verdict verdict = Verdict::kDeny;
  std::string pattern;
  std::string text;  // Decision::rule
  Place place;
};

struct SyscallRules {
  bool strict = false;  // only what is listed and what `allow` names; else whatever the engine lets
  int errno_value = EPERM;  // of what is refused: 1..4095
  std::vector<std::string> allow;
  std::vector<std::string> deny;  // wins over `allow`, which names none of these
};

using Proxies = std::map<std::string, Proxy, std::less<>>;

struct CheckedPolicy {
  std::string name;
  Place place;
  Mode mode = Mode::kEnforce;
  LogLevel log = LogLevel::kLeaks;
  Verdict outgoing_default = Verdict::kDeny;
  std::vector<AddressRule> outgoing;        // rules for addresses
  std::vector<AddressRule> outgoing_names;  // rules for names
  DnsSettings dns;
  std::shared_ptr<const Proxies> proxies;  // what pointers to a Proxy point into
  const Proxy* proxy = nullptr;
  std::optional<HandshakeRules> handshake;
  Verdict incoming_default = Verdict::kAllow;
  std::vector<AddressRule> incoming;
  Verdict unix_default = Verdict::kAllow;
  std::vector<UnixRule> unix_rules;
  SyscallRules syscalls;
};

// A glob pattern over a fact of a container; key is used by annotations and labels.
struct KeyPattern {
  std::string key;
  std::string pattern;
};

struct CheckedContainerRule {
  Place place;
  std::vector<KeyPattern> annotations;
  std::vector<KeyPattern> labels;
  std::optional<std::string> name;
  std::optional<std::string> image;
  std::optional<std::string> ns;
  std::optional<std::string> pod;
  std::optional<std::string> engine;
  std::optional<std::string> id;
  std::string policy;             // a policy's name, or
  std::string policy_annotation;  // the annotation that names it
};

struct CheckedSet {
  std::vector<CheckedPolicy> policies;
  std::vector<CheckedContainerRule> containers;
};

// Words that a key takes, under the name that schema.json has for them in "$defs": what a test
// compares with the schema.
struct Words {
  std::string_view name;
  std::span<const std::string_view> words;
};
[[nodiscard]] std::span<const Words> AllWords();

// Checks the files of one load as one. What is wrong, and what is not built yet, goes to
// `diagnostics`; the result is of use only when that stays empty.
[[nodiscard]] CheckedSet Check(std::span<const syntax::File> files, const Sources& sources,
                               Diagnostics& diagnostics);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECKED_H_
