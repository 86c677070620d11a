#include "agent/events/json_text.h"

#include "base/utf8.h"

namespace oakum::agent {

namespace {

void AppendHex(unsigned value, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out.append("\\u");
  for (int shift = 12; shift >= 0; shift -= 4) {
    out.push_back(kDigits[(value >> shift) & 0xf]);
  }
}

// Appends the character at the start of `text`, which is not plain ASCII, and returns its length.
size_t AppendSpecial(std::string_view text, std::string& out) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead == '"' || lead == '\\') {
    out.push_back('\\');
    out.push_back(text[0]);
    return 1;
  }
  if (lead < 0x80) {
    AppendHex(lead, out);
    return 1;
  }
  const size_t length = Utf8Length(text);
  if (length == 0) {
    out.append("\xef\xbf\xbd");
    return 1;
  }
  const auto character = text.substr(0, length);
  if (length == 2 && lead == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0) {
    AppendHex(static_cast<unsigned char>(text[1]), out);
  } else if (character == "\u2028") {
    AppendHex(0x2028, out);
  } else if (character == "\u2029") {
    AppendHex(0x2029, out);
  } else {
    out.append(character);
  }
  return length;
}

bool IsPlain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\';
}

}  // namespace

void AppendJsonString(std::string_view text, std::string& out) {
  out.push_back('"');
  while (!text.empty()) {
    size_t plain = 0;
    while (plain < text.size() && IsPlain(text[plain])) {
      ++plain;
    }
    out.append(text.substr(0, plain));
    text.remove_prefix(plain);
    if (!text.empty()) {
      text.remove_prefix(AppendSpecial(text, out));
    }
  }
  out.push_back('"');
}

}  // namespace oakum::agent
