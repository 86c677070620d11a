#include "policy/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace oakum::policy {

Source::Source(std::string name, std::string text)
    : name_(std::move(name)), text_(std::move(text)) {
  line_starts_.push_back(0);
  for (size_t at = text_.find('\n'); at != std::string::npos; at = text_.find('\n', at + 1)) {
    line_starts_.push_back(static_cast<uint32_t>(at + 1));
  }
}

Position Source::At(uint32_t offset) const {
  const auto next = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
  return {.line = static_cast<uint32_t>(next - line_starts_.begin()),
          .column = offset - *(next - 1) + 1};
}

uint32_t Sources::Add(std::string name, std::string text) {
  files_.emplace_back(std::move(name), std::move(text));
  return static_cast<uint32_t>(files_.size() - 1);
}

std::string Sources::Describe(Location at) const {
  const Position position = files_[at.file].At(at.offset);
  return fmt::format("{}:{}:{}", files_[at.file].name(), position.line, position.column);
}

void Diagnostics::Add(Location at, std::string_view what) {
  if (++count_ <= kMaxKept) {
    kept_.push_back({.at = at, .what = std::string(what)});
  }
}

Error Diagnostics::ToError() const {
  std::vector<Entry> sorted = kept_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.at.file, a.at.offset) < std::pair(b.at.file, b.at.offset);
  });
  std::string text;
  for (const Entry& entry : sorted) {
    text +=
        fmt::format("{}{}: {}", text.empty() ? "" : "\n", sources_.Describe(entry.at), entry.what);
  }
  if (count_ > kMaxKept) {
    text += fmt::format("\n(and {} more)", count_ - kMaxKept);
  }
  return {EINVAL, std::move(text)};
}

}  // namespace oakum::policy
