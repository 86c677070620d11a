// The pattern of "isolation" in "handshake": a regular expression over what a container sends.
#ifndef OAKUM_POLICY_PASSWORD_PATTERN_H_
#define OAKUM_POLICY_PASSWORD_PATTERN_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

namespace oakum::policy {

// ECMAScript without back-references and look-ahead: what is left is matched in steps that are
// linear in the password's length, so that no container chooses one that keeps the agent busy
// ("^(a+)+$" would take 2^n with the usual backtracking).
class PasswordPattern {
 public:
  static constexpr size_t kMaxText = 256;      // bytes of the expression
  static constexpr size_t kMaxPassword = 255;  // bytes; RFC 1929 section 2 has no room for more

  // Nothing for text that is not such an expression, is too long, or repeats too often.
  static std::optional<PasswordPattern> Parse(std::string_view text);

  // Whether the whole password matches; none of more than kMaxPassword bytes does (HTTP has them).
  [[nodiscard]] bool Matches(std::string_view password) const;

 private:
  struct Compiled;
  explicit PasswordPattern(std::shared_ptr<const Compiled> compiled);

  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PASSWORD_PATTERN_H_
