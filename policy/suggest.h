// "Did you mean": the known word nearest to an unknown one.
#ifndef OAKUM_POLICY_SUGGEST_H_
#define OAKUM_POLICY_SUGGEST_H_

#include <span>
#include <string>
#include <string_view>

namespace oakum::policy {

// The candidate with the fewest insertions, deletions, replacements and swaps of neighbours away
// from `word` (letters' case does not count), if that is few enough to be a slip; else empty.
[[nodiscard]] std::string_view Nearest(std::string_view word,
                                       std::span<const std::string_view> candidates);

// `; did you mean "outgoing"?` or, when nothing is near, `; known are "a", "b"` (at most
// kMaxListed), or nothing without candidates.
[[nodiscard]] std::string DidYouMean(std::string_view word,
                                     std::span<const std::string_view> candidates);
inline constexpr size_t kMaxListed = 16;

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_SUGGEST_H_
