// Rules as an operator writes them, taken apart: `HOST[:PORTS][/PROTOCOL]`, then ` from HOST` in
// incoming rules and ` via PROXY` in those that redirect.
#ifndef OAKUM_POLICY_RULE_TEXT_H_
#define OAKUM_POLICY_RULE_TEXT_H_

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"
#include "policy/request.h"

namespace oakum::policy {

inline constexpr size_t kMaxPortItems = 256;  // elements of one PORTS list
inline constexpr uint16_t kDnsPort = 53;

enum class Family : uint8_t { kAny, kV4, kV6 };

// A set of addresses that share their first `length` bits (of 32 or 128). Bits beyond are zero.
// With kAny the length is 0: every address of both families.
struct Prefix {
  Family family = Family::kAny;
  uint8_t length = 0;
  IpAddress address;

  [[nodiscard]] bool Contains(const IpAddress& candidate) const;
  // Whether it holds one address alone.
  [[nodiscard]] bool IsSingle() const {
    return family != Family::kAny && length == (family == Family::kV4 ? 32 : 128);
  }
  bool operator==(const Prefix&) const = default;
};

struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;

  bool operator==(const PortRange&) const = default;
};

struct ParsedRule {
  Prefix host;
  std::string_view domain;             // a name instead of `host`: "example.com", "*.example.com"
  std::vector<PortRange> ports;        // sorted, disjoint, not adjacent; empty: every port
  bool names_dns = false;              // 53 stands in PORTS by itself, not inside a wider range
  std::optional<Transport> transport;  // empty: every protocol
  std::optional<Prefix> from;          // incoming only
  std::string_view from_domain;        // a name after "from"
  std::string_view via;                // redirect only: the name of a proxy
};

struct RuleError {
  size_t offset = 0;  // into the text
  std::string what;
};

enum class RuleKind : uint8_t { kOutgoing, kRedirect, kIncoming };

[[nodiscard]] std::expected<ParsedRule, RuleError> ParseRule(std::string_view text, RuleKind kind);

// A name as InetRequest::names has it: lower case, without a final dot.
[[nodiscard]] std::string NormalName(std::string_view name);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_RULE_TEXT_H_
