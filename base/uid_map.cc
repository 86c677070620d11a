#include "base/uid_map.h"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace oakum {

namespace {

constexpr std::string_view kSpace = " \t\n";

// Takes the number that comes next off `text`.
bool Take(std::string_view& text, uint64_t& number) {
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) {
    return false;
  }
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

}  // namespace

std::vector<UidRange> ParseUidMap(std::string_view text) {
  std::vector<UidRange> ranges;
  UidRange range;
  while (Take(text, range.inside) && Take(text, range.outside) && Take(text, range.count)) {
    ranges.push_back(range);
  }
  return ranges;
}

}  // namespace oakum
