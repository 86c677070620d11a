// Expected failure: an errno for the container, a story for the operator.
#ifndef OAKUM_BASE_ERROR_H_
#define OAKUM_BASE_ERROR_H_

#include <expected>
#include <string>
#include <string_view>

namespace oakum {

struct Error {
  int code = 0;      // an errno value, never 0 in a real error (EINVAL when nothing fits better)
  std::string what;  // what was attempted and what was wrong, without a trailing full stop

  // "outer: inner"; used at folder boundaries.
  [[nodiscard]] Error Context(std::string_view outer) &&;
  // "what: strerror(code)" when the text does not already explain itself.
  [[nodiscard]] std::string ToString() const;
};

template <typename T>
using Expected = std::expected<T, Error>;

// An error from errno: "what: No such file or directory". Reads errno at once.
[[nodiscard]] std::unexpected<Error> ErrnoError(std::string_view what);
// The same from a given errno value.
[[nodiscard]] std::unexpected<Error> ErrnoError(int code, std::string_view what);
// An error whose text says all; `code` is for whoever must answer a container.
[[nodiscard]] std::unexpected<Error> MakeError(int code, std::string what);

// Escapes control characters, quotes, backslashes and bytes that are not UTF-8 text, so that a
// string which comes from a container cannot forge a line or a terminal sequence (\n, \x1b ...).
// At most `limit` bytes of input are shown, then "...".
[[nodiscard]] std::string Escape(std::string_view text, size_t limit = 256);

}  // namespace oakum

#endif  // OAKUM_BASE_ERROR_H_
