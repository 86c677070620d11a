#include "policy/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "base/error.h"

namespace oakum::policy {

namespace {

// Beyond this a word is no slip of a key; also bounds the work on hostile input.
constexpr size_t kMaxWord = 64;

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Optimal string alignment distance.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    last[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = Lower(a[i - 1]) == Lower(b[j - 1]) ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + replaced});
      if (i > 1 && j > 1 && Lower(a[i - 1]) == Lower(b[j - 2]) &&
          Lower(a[i - 2]) == Lower(b[j - 1])) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string_view Nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > kMaxWord) {
    return {};
  }
  std::string_view best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  for (const std::string_view candidate : candidates) {
    if (candidate.size() > kMaxWord) {
      continue;
    }
    const size_t distance = Distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  const size_t allowed = std::max<size_t>(1, std::max(word.size(), best.size()) / 3);
  return best_distance <= allowed && best_distance < best.size() ? best : std::string_view();
}

std::string DidYouMean(std::string_view word, std::span<const std::string_view> candidates) {
  if (const std::string_view nearest = Nearest(word, candidates); !nearest.empty()) {
    return fmt::format("; did you mean \"{}\"?", nearest);
  }
  if (candidates.empty() || candidates.size() > kMaxListed) {
    return {};
  }
  std::string text = "; known are ";
  for (size_t i = 0; i < candidates.size(); ++i) {
    text += fmt::format("{}\"{}\"", i == 0 ? "" : ", ", candidates[i]);
  }
  return text;
}

}  // namespace oakum::policy
