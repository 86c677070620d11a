#include "base/error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

#include "base/utf8.h"

namespace oakum {

namespace {

// The length of the text character at the start of `text`, 0 if it is not one: not UTF-8, or a C1
// control, which terminals obey like an escape sequence.
size_t TextLength(std::string_view text) {
  const size_t length = Utf8Length(text);
  return length == 2 && text[0] == '\xc2' && static_cast<unsigned char>(text[1]) < 0xa0 ? 0
                                                                                        : length;
}

}  // namespace

Error Error::Context(std::string_view outer) && {
  what.insert(0, fmt::format("{}: ", outer));
  return std::move(*this);
}

std::string Error::ToString() const { return what; }

std::unexpected<Error> ErrnoError(std::string_view what) { return ErrnoError(errno, what); }

std::unexpected<Error> ErrnoError(int code, std::string_view what) {
  return std::unexpected(
      Error{code, fmt::format("{}: {}", what, std::generic_category().message(code))});
}

std::unexpected<Error> MakeError(int code, std::string what) {
  return std::unexpected(Error{code, std::move(what)});
}

std::string Escape(std::string_view text, size_t limit) {
  std::string out;
  const bool cut = text.size() > limit;
  text = text.substr(0, limit);
  while (!text.empty()) {
    const size_t length = TextLength(text);
    const char c = text[0];
    if (length > 1) {
      out.append(text.substr(0, length));
    } else if (c == '\\' || c == '"') {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out.append("\\n");
    } else if (c == '\t') {
      out.append("\\t");
    } else if (length == 0 || static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out.append(fmt::format("\\x{:02x}", static_cast<unsigned char>(c)));
    } else {
      out.push_back(c);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  if (cut) {
    out.append("...");
  }
  return out;
}

}  // namespace oakum
