#include "policy/jsonc.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "base/utf8.h"

namespace oakum::policy::jsonc {

namespace {

// Objects with more members than this are searched for duplicate keys with a hash table.
constexpr size_t kLinearSearch = 16;

void AppendUtf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | (code >> 6));
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3f));
    put(0x80 | ((code >> 6) & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Recursive descent. Each function returns false once it has said what is wrong.
class Parser {
 public:
  Parser(const Sources& sources, uint32_t number, Comments comments, Diagnostics& diagnostics,
         Document& document)
      : text_(sources.file(number).text()),
        number_(number),
        comments_(comments),
        diagnostics_(diagnostics),
        document_(document) {}

  bool Run() {
    if (!SkipSpace() || !ParseValue(document_.root, 0) || !SkipSpace()) {
      return false;
    }
    return AtEnd() || Fail("nothing may follow the outermost value");
  }

 private:
  [[nodiscard]] bool AtEnd() const { return at_ >= text_.size(); }
  [[nodiscard]] char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  [[nodiscard]] Location Here() const { return LocationOf(at_); }
  [[nodiscard]] Location LocationOf(size_t offset) const {
    return {.file = number_, .offset = static_cast<uint32_t>(offset)};
  }

  bool Fail(std::string_view what) { return FailAt(at_, what); }
  bool FailAt(size_t offset, std::string_view what) {
    diagnostics_.Add(LocationOf(offset), what);
    return false;
  }
  // "expected X, found Y"
  bool Expected(std::string_view what) {
    if (AtEnd()) {
      return Fail(fmt::format("expected {}, found the end of the file", what));
    }
    return Fail(fmt::format("expected {}, found \"{}\"", what, Escape(text_.substr(at_, 1))));
  }

  bool SkipSpace() {
    for (;;) {
      const char c = Peek();
      if (!AtEnd() && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
        ++at_;
      } else if (c == '/' && comments_ == Comments::kAllowed) {
        if (text_.substr(at_, 2) != "//") {
          return Fail("a comment starts with // and goes to the end of its line");
        }
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        return true;
      }
    }
  }

  bool ParseValue(Value& value, size_t depth) {
    value.at = Here();
    switch (Peek()) {
      case '{':
        return ParseObject(value, depth + 1);
      case '[':
        return ParseArray(value, depth + 1);
      case '"':
        value.kind = Kind::kString;
        return ParseString(value.text);
      case 't':
        return ParseWord(value, "true", Kind::kBool);
      case 'f':
        return ParseWord(value, "false", Kind::kBool);
      case 'n':
        return ParseWord(value, "null", Kind::kNull);
      default:
        return ParseNumber(value);
    }
  }

  bool ParseWord(Value& value, std::string_view word, Kind kind) {
    if (text_.substr(at_, word.size()) != word) {
      return Expected("a value");
    }
    at_ += word.size();
    value.kind = kind;
    value.boolean = word == "true";
    return true;
  }

  bool ParseNumber(Value& value) {
    const size_t start = at_;
    if (Peek() == '-') {
      ++at_;
    }
    if (!IsDigit(Peek())) {
      return at_ == start ? Expected("a value") : Expected("a digit");
    }
    const bool zero = Peek() == '0';
    SkipDigits();
    if (zero && at_ - start > (text_[start] == '-' ? 2U : 1U)) {
      return FailAt(start, "a number may not start with 0");
    }
    if (Peek() == '.') {
      ++at_;
      if (!IsDigit(Peek())) {
        return Expected("a digit");
      }
      SkipDigits();
    }
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (Peek() == '+' || Peek() == '-') {
        ++at_;
      }
      if (!IsDigit(Peek())) {
        return Expected("a digit");
      }
      SkipDigits();
    }
    value.kind = Kind::kNumber;
    value.text = text_.substr(start, at_ - start);
    return true;
  }

  void SkipDigits() {
    while (IsDigit(Peek())) {
      ++at_;
    }
  }

  // Most strings have no escapes: those are views of the file.
  bool ParseString(std::string_view& out) {
    const size_t start = ++at_;
    while (!AtEnd() && text_[at_] != '"' && text_[at_] != '\\') {
      if (!TakeCharacter()) {
        return false;
      }
    }
    if (AtEnd()) {
      return FailAt(start - 1, "this string has no closing quote");
    }
    if (text_[at_] == '"') {
      out = text_.substr(start, at_++ - start);
      return true;
    }
    return ParseEscapedString(start, out);
  }

  bool ParseEscapedString(size_t start, std::string_view& out) {
    std::string text(text_.substr(start, at_ - start));
    while (!AtEnd() && text_[at_] != '"') {
      if (text_[at_] == '\\') {
        if (!ParseEscape(text)) {
          return false;
        }
        continue;
      }
      const size_t from = at_;
      if (!TakeCharacter()) {
        return false;
      }
      text.append(text_.substr(from, at_ - from));
    }
    if (AtEnd()) {
      return FailAt(start - 1, "this string has no closing quote");
    }
    ++at_;
    out = document_.unescaped.emplace_back(std::move(text));
    return true;
  }

  bool TakeCharacter() {
    if (static_cast<unsigned char>(text_[at_]) < 0x20) {
      return Fail(text_[at_] == '\n' ? "a string ends on the line where it starts"
                                     : "control characters in strings are written as \\u00XX");
    }
    const size_t length = Utf8Length(text_.substr(at_));
    if (length == 0) {
      return Fail("not UTF-8");
    }
    at_ += length;
    return true;
  }

  bool ParseEscape(std::string& out) {
    const size_t start = at_++;
    static constexpr std::string_view kFrom = "\"\\/bfnrt";
    static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
    if (const size_t found = kFrom.find(Peek()); !AtEnd() && found != std::string_view::npos) {
      out.push_back(kTo[found]);
      ++at_;
      return true;
    }
    if (Peek() != 'u') {
      return FailAt(start, "unknown escape in a string");
    }
    ++at_;
    uint32_t code = 0;
    if (!ParseHex(code)) {
      return FailAt(start, "\\u takes four hexadecimal digits");
    }
    if (code >= 0xd800 && code < 0xdc00) {
      uint32_t low = 0;
      const bool pair = text_.substr(at_, 2) == "\\u";
      at_ += pair ? 2 : 0;
      if (!pair || !ParseHex(low) || low < 0xdc00 || low > 0xdfff) {
        return FailAt(start, "half of a surrogate pair");
      }
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      return FailAt(start, "half of a surrogate pair");
    }
    if (code == 0) {
      return FailAt(start, "NUL characters are refused");
    }
    AppendUtf8(out, code);
    return true;
  }

  bool ParseHex(uint32_t& code) {
    const std::string_view digits = text_.substr(std::min(at_, text_.size()), 4);
    if (digits.size() < 4) {
      return false;
    }
    code = 0;
    for (const char c : digits) {
      const int digit = IsDigit(c)             ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) {
        return false;
      }
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    at_ += 4;
    return true;
  }

  bool ParseArray(Value& value, size_t depth) {
    value.kind = Kind::kArray;
    if (depth > kMaxNesting) {
      return Fail(fmt::format("nested more than {} levels deep", kMaxNesting));
    }
    ++at_;
    if (!SkipSpace()) {
      return false;
    }
    if (Peek() == ']') {
      ++at_;
      return true;
    }
    for (;;) {
      if (!ParseValue(value.items.emplace_back(), depth) || !SkipSpace()) {
        return false;
      }
      if (Peek() == ']') {
        ++at_;
        return true;
      }
      if (!TakeComma(']')) {
        return false;
      }
    }
  }

  bool ParseObject(Value& value, size_t depth) {
    value.kind = Kind::kObject;
    if (depth > kMaxNesting) {
      return Fail(fmt::format("nested more than {} levels deep", kMaxNesting));
    }
    ++at_;
    if (!SkipSpace()) {
      return false;
    }
    if (Peek() == '}') {
      ++at_;
      return true;
    }
    std::unordered_set<std::string_view> seen;
    for (;;) {
      if (!ParseMember(value, depth, seen) || !SkipSpace()) {
        return false;
      }
      if (Peek() == '}') {
        ++at_;
        return true;
      }
      if (!TakeComma('}')) {
        return false;
      }
    }
  }

  bool ParseMember(Value& object, size_t depth, std::unordered_set<std::string_view>& seen) {
    Member& member = object.members.emplace_back();
    member.key_at = Here();
    if (Peek() != '"') {
      return Expected("a key in double quotes");
    }
    if (!ParseString(member.key) || !SkipSpace()) {
      return false;
    }
    if (IsDuplicate(object.members, seen)) {
      return FailAt(member.key_at.offset,
                    fmt::format("\"{}\" stands here twice", Escape(member.key)));
    }
    if (Peek() != ':') {
      return Expected("\":\"");
    }
    ++at_;
    return SkipSpace() && ParseValue(member.value, depth);
  }

  static bool IsDuplicate(const std::vector<Member>& members,
                          std::unordered_set<std::string_view>& seen) {
    const std::string_view key = members.back().key;
    if (members.size() <= kLinearSearch) {
      return std::any_of(members.begin(), members.end() - 1,
                         [&](const Member& member) { return member.key == key; });
    }
    if (seen.empty()) {
      for (auto member = members.begin(); member != members.end() - 1; ++member) {
        seen.insert(member->key);
      }
    }
    return !seen.insert(key).second;
  }

  bool TakeComma(char closing) {
    if (Peek() != ',') {
      return Expected(fmt::format("\",\" or \"{}\"", closing));
    }
    const size_t comma = at_++;
    if (!SkipSpace()) {
      return false;
    }
    return Peek() != closing ||
           FailAt(comma, fmt::format("no comma before the closing \"{}\"", closing));
  }

  std::string_view text_;
  uint32_t number_;
  Comments comments_;
  Diagnostics& diagnostics_;
  Document& document_;
  size_t at_ = 0;
};

}  // namespace

std::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return "true or false";
    case Kind::kNumber:
      return "a number";
    case Kind::kString:
      return "a string";
    case Kind::kArray:
      return "an array";
    case Kind::kObject:
      return "an object";
  }
  return "nothing";
}

const Value* Value::Find(std::string_view key) const {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [&](const Member& member) { return member.key == key; });
  return found == members.end() ? nullptr : &found->value;
}

std::optional<Document> Parse(const Sources& sources, uint32_t number, Comments comments,
                              Diagnostics& diagnostics) {
  std::optional<Document> document(std::in_place);
  if (!Parser(sources, number, comments, diagnostics, *document).Run()) {
    return std::nullopt;
  }
  return document;
}

}  // namespace oakum::policy::jsonc
