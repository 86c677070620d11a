#include "oci/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

namespace oakum::oci {

namespace {

constexpr size_t kMaxDepth = 128;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";  // nlohmann_json would skip it

// Reads the text and tells how far the lexer has come: SAX events carry no position of their own.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    *furthest_ = at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Builds the document and stops at the first thing that is not strict.
class Builder {
 public:
  explicit Builder(std::string_view text) : text_(text), furthest_(text.data()) {}

  CountingIterator begin() { return {text_.data(), &furthest_}; }
  CountingIterator end() { return {text_.data() + text_.size(), &furthest_}; }

  bool null() { return Add(nullptr); }
  bool boolean(bool value) { return Add(value); }
  bool number_integer(Json::number_integer_t value) { return Add(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return Add(value); }
  bool number_float(Json::number_float_t value, const std::string& raw) {
    if (raw.find_first_of(".eE") == std::string::npos) {
      return Fail(NumberStart(raw), fmt::format("integer {} does not fit into 64 bits", raw));
    }
    return Add(value);
  }
  bool string(std::string& value) { return Add(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return Fail(Position(), "binary value"); }

  bool start_object(size_t /*size*/) { return Open(true); }
  bool key(std::string& key) {
    Level& level = levels_.back();
    if (!level.AddKey(key)) {
      return Fail(KeyStart(), fmt::format("duplicate key \"{}\"", Escape(key)));
    }
    level.key = std::move(key);
    return true;
  }
  bool end_object() {
    Json::object_t object;
    // ordered_map copies its members, whole documents among them, where it grows.
    object.reserve(levels_.back().members.size());
    for (auto& [key, value] : levels_.back().members) {
      object.emplace_back(std::move(key), std::move(value));
    }
    return Close(std::move(object));
  }
  bool start_array(size_t /*size*/) { return Open(false); }
  bool end_array() { return Close(std::move(levels_.back().items)); }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const Json::exception& exception) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...":
    // what stands after the position is the reason.
    std::string_view what = exception.what();
    if (const size_t at = what.find("column "); at != std::string_view::npos) {
      if (const size_t colon = what.find(": ", at); colon != std::string_view::npos) {
        what.remove_prefix(colon + 2);
      }
    }
    return Fail(position == 0 ? 0 : position - 1, Escape(what));
  }

  bool failed() const { return failed_; }
  size_t error_offset() const { return error_offset_; }
  const std::string& error() const { return error_; }
  Json Take() { return std::move(root_); }

 private:
  struct Level {
    bool is_object;
    std::string key;  // of the member that comes next
    std::vector<std::pair<std::string, Json>> members;
    std::set<std::string, std::less<>> keys;  // of the members, once there are many
    Json::array_t items;

    // False when it is there already.
    bool AddKey(const std::string& added) {
      constexpr size_t kFew = 16;
      if (members.size() < kFew) {
        return std::ranges::none_of(members,
                                    [&](const auto& member) { return member.first == added; });
      }
      if (keys.empty()) {
        for (const auto& [name, value] : members) {
          keys.insert(name);
        }
      }
      return keys.insert(added).second;
    }
  };

  size_t Position() const { return static_cast<size_t>(furthest_ - text_.data()); }

  // Offset of the opening quote of the key whose closing quote was just read.
  size_t KeyStart() const {
    size_t at = Position() - 1;
    while (at > 0) {
      --at;
      if (text_[at] != '"') {
        continue;
      }
      size_t backslashes = 0;
      while (backslashes < at && text_[at - 1 - backslashes] == '\\') {
        ++backslashes;
      }
      if (backslashes % 2 == 0) {
        break;
      }
    }
    return at;
  }

  // The lexer reads one byte beyond a number, except at the end of the text.
  size_t NumberStart(const std::string& raw) const {
    const size_t end = Position();
    if (end > raw.size() && text_.compare(end - 1 - raw.size(), raw.size(), raw) == 0) {
      return end - 1 - raw.size();
    }
    return end - std::min(end, raw.size());
  }

  bool Fail(size_t offset, std::string what) {
    failed_ = true;
    error_offset_ = offset;
    error_ = std::move(what);
    return false;
  }

  bool Add(Json value) {
    if (levels_.empty()) {
      root_ = std::move(value);
    } else if (Level& level = levels_.back(); level.is_object) {
      level.members.emplace_back(std::move(level.key), std::move(value));
    } else {
      level.items.push_back(std::move(value));
    }
    return true;
  }

  bool Open(bool is_object) {
    if (levels_.size() == kMaxDepth) {
      return Fail(Position() - 1, fmt::format("nested deeper than {} levels", kMaxDepth));
    }
    levels_.push_back(Level{is_object, {}, {}, {}, {}});
    return true;
  }

  bool Close(Json value) {
    levels_.pop_back();
    return Add(std::move(value));
  }

  std::string_view text_;
  const char* furthest_;
  Json root_;
  std::vector<Level> levels_;
  bool failed_ = false;
  size_t error_offset_ = 0;
  std::string error_;
};

}  // namespace

std::string LineAndColumn(std::string_view text, size_t offset) {
  text = text.substr(0, offset);
  const auto line = 1 + std::count(text.begin(), text.end(), '\n');
  const size_t last_break = text.rfind('\n');
  const size_t column =
      1 + (last_break == std::string_view::npos ? text.size() : text.size() - last_break - 1);
  return fmt::format("{}:{}", line, column);
}

Expected<Json> ParseJson(std::string_view text, std::string_view name) {
  if (text.empty()) {
    return MakeError(EINVAL, fmt::format("{}:1:1: empty", name));
  }
  if (text.starts_with(kByteOrderMark)) {
    return MakeError(EINVAL, fmt::format("{}:1:1: byte order mark", name));
  }
  Builder builder(text);
  const bool parsed = Json::sax_parse(builder.begin(), builder.end(), &builder);
  if (!parsed || builder.failed()) {
    return MakeError(EINVAL,
                     fmt::format("{}:{}: {}", name, LineAndColumn(text, builder.error_offset()),
                                 builder.error()));
  }
  return builder.Take();
}

}  // namespace oakum::oci
