// JSON written straight into a buffer, for lines that are made by the hundred thousand.
#ifndef OAKUM_AGENT_EVENTS_JSON_TEXT_H_
#define OAKUM_AGENT_EVENTS_JSON_TEXT_H_

#include <array>
#include <charconv>
#include <concepts>
#include <string>
#include <string_view>

namespace oakum::agent {

// Appends `text` as a JSON string with its quotes (RFC 8259 section 7). Bytes that are not UTF-8
// become U+FFFD; controls (C0, DEL, C1) and the line separators U+2028 and U+2029 are escaped, so
// that no reader of lines and no terminal sees anything but text.
void AppendJsonString(std::string_view text, std::string& out);

// Composes nested objects. Keys and literals are ours and need no escaping.
class JsonComposer {
 public:
  explicit JsonComposer(std::string& out) : out_(out) { out_.push_back('{'); }

  void Open(std::string_view key) {
    Key(key);
    out_.push_back('{');
  }
  void Close() { out_.push_back('}'); }
  // A string from outside.
  void Text(std::string_view key, std::string_view text) {
    Key(key);
    AppendJsonString(text, out_);
  }
  void TextUnlessEmpty(std::string_view key, std::string_view text) {
    if (!text.empty()) {
      Text(key, text);
    }
  }
  // JSON of our own.
  void Raw(std::string_view key, std::string_view json) {
    Key(key);
    out_.append(json);
  }
  // A string of our own.
  void Literal(std::string_view key, std::string_view text) {
    Key(key);
    out_.push_back('"');
    out_.append(text);
    out_.push_back('"');
  }
  void Bool(std::string_view key, bool value) { Raw(key, value ? "true" : "false"); }
  template <std::integral T>
  void Number(std::string_view key, T value) {
    Key(key);
    AppendNumber(value);
  }
  // A number that ECS types as a keyword.
  template <std::integral T>
  void NumberText(std::string_view key, T value) {
    Key(key);
    out_.push_back('"');
    AppendNumber(value);
    out_.push_back('"');
  }
  void Key(std::string_view key) {
    if (out_.back() != '{') {
      out_.push_back(',');
    }
    out_.push_back('"');
    out_.append(key);
    out_.append("\":");
  }

 private:
  template <std::integral T>
  void AppendNumber(T value) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    out_.append(digits.data(), end);
  }

  std::string& out_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENTS_JSON_TEXT_H_
