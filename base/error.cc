#include "base/error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace oakum {

namespace {

// The length of the well-formed UTF-8 sequence at the start of `text`, 0 if there is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length == 0 || length > text.size()) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return 0;
    }
  }
  // Overlong forms, surrogates and values beyond U+10FFFF (RFC 3629 section 4), C1 controls.
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) >= 0xa0) ||
      (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) >= 0x90) ||
      (lead == 0xc2 && byte(1) < 0xa0)) {
    return 0;
  }
  return length;
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
    const size_t length = Utf8Length(text);
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
