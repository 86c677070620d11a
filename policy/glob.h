// Glob patterns. Matching neither allocates nor recurses.
#ifndef OAKUM_POLICY_GLOB_H_
#define OAKUM_POLICY_GLOB_H_

#include <string_view>

namespace oakum::policy {

// `*` any characters, none included, and `?` one; both take "/" as well. For names and images.
[[nodiscard]] bool MatchesGlob(std::string_view pattern, std::string_view text);

// For paths: `*` any characters but "/", `?` one character but "/", `**` any characters. A pattern
// that starts with "@" is for the abstract namespace, where "/" is a character like any other.
[[nodiscard]] bool MatchesPathGlob(std::string_view pattern, std::string_view path);

// How much of the pattern has to be matched literally from its start: the more, the more specific.
[[nodiscard]] size_t LiteralPrefix(std::string_view pattern);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_GLOB_H_
