// The expression's states: each costs a step for each byte of a password, and a level of the stack.
// "[0-9a-f]{96}" has some two hundred; libstdc++ would take 100,000.
#define _GLIBCXX_REGEX_STATE_LIMIT 2048  // NOLINT: the library has its users set it
#include "policy/password_pattern.h"

#include <regex>
#include <utility>

namespace oakum::policy {

struct PasswordPattern::Compiled {
  std::regex regex;
};

namespace {

// libstdc++'s __polynomial keeps the set of states that it can be in instead of trying one way
// after the other, and refuses back-references, which cannot be matched so.
constexpr auto kSyntax =
    std::regex::ECMAScript | std::regex::nosubs | std::regex_constants::__polynomial;

// Look-ahead starts at each byte anew, and nested in itself takes a power of the length. Where the
// same characters mean something else ("\(?="), "[(]?=" says it.
bool LooksAhead(std::string_view text) {
  return text.find("(?=") != std::string_view::npos || text.find("(?!") != std::string_view::npos;
}

}  // namespace

PasswordPattern::PasswordPattern(std::shared_ptr<const Compiled> compiled)
    : compiled_(std::move(compiled)) {}

std::optional<PasswordPattern> PasswordPattern::Parse(std::string_view text) {
  if (text.size() > kMaxText || LooksAhead(text)) {
    return std::nullopt;
  }
  try {
    return PasswordPattern(
        std::make_shared<const Compiled>(std::regex(text.begin(), text.end(), kSyntax)));
  } catch (const std::regex_error&) {
    return std::nullopt;
  }
}

bool PasswordPattern::Matches(std::string_view password) const {
  return password.size() <= kMaxPassword &&
         std::regex_match(password.begin(), password.end(), compiled_->regex);
}

}  // namespace oakum::policy
