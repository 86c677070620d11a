#include "policy/glob.h"

#include <algorithm>

namespace oakum::policy {

namespace {

constexpr size_t kNowhere = std::string_view::npos;

// Where matching can be taken up again: the pattern after a star, and how much of the text the star
// has eaten.
struct Retry {
  size_t pattern = kNowhere;
  size_t text = 0;
};

// With `separator`, "*" and "?" stop at it and only "**" passes. It is enough to remember the last
// star of either kind: whatever an earlier one could eat, the last one can as well.
bool Match(std::string_view pattern, std::string_view text, bool separator) {
  Retry narrow;  // the last "*"
  Retry wide;    // the last "**"
  size_t p = 0;
  size_t t = 0;
  while (t < text.size() || p < pattern.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      size_t stars = 1;
      while (p + stars < pattern.size() && pattern[p + stars] == '*') {
        ++stars;
      }
      p += stars;
      if (stars > 1 || !separator) {
        wide = {.pattern = p, .text = t};
        narrow = {};
      } else {
        narrow = {.pattern = p, .text = t};
      }
      continue;
    }
    if (p < pattern.size() && t < text.size() &&
        (pattern[p] == text[t] || (pattern[p] == '?' && !(separator && text[t] == '/')))) {
      ++p;
      ++t;
      continue;
    }
    if (narrow.pattern != kNowhere && narrow.text < text.size() && text[narrow.text] != '/') {
      t = ++narrow.text;
      p = narrow.pattern;
      continue;
    }
    if (wide.pattern != kNowhere && wide.text < text.size()) {
      t = ++wide.text;
      p = wide.pattern;
      narrow = {};
      continue;
    }
    return false;
  }
  return true;
}

}  // namespace

bool MatchesGlob(std::string_view pattern, std::string_view text) {
  return Match(pattern, text, false);
}

bool MatchesPathGlob(std::string_view pattern, std::string_view path) {
  return Match(pattern, path, !pattern.starts_with('@'));
}

size_t LiteralPrefix(std::string_view pattern) {
  return std::min(pattern.find_first_of("*?"), pattern.size());
}

}  // namespace oakum::policy
