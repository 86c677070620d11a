#include "policy/check_context.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::policy {

Place CheckContext::PlaceOf(Location at) const {
  return {.file = at.file, .position = sources_.file(at.file).At(at.offset)};
}

void CheckContext::NotBuilt(Location at, std::string_view what) {
  Say(at, fmt::format("{}: not built yet", what));
}

std::optional<size_t> CheckContext::Choose(const std::optional<syntax::Text>& text,
                                           std::string_view key,
                                           std::span<const std::string_view> words) {
  if (!text) {
    return std::nullopt;
  }
  const auto found = std::find(words.begin(), words.end(), text->value);
  if (found == words.end()) {
    Say(text->at, fmt::format("\"{}\" is no value of \"{}\"{}", Escape(text->value), key,
                              DidYouMean(text->value, words)));
    return std::nullopt;
  }
  return static_cast<size_t>(found - words.begin());
}

}  // namespace oakum::policy
