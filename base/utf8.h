// Well-formed UTF-8 (RFC 3629).
#ifndef OAKUM_BASE_UTF8_H_
#define OAKUM_BASE_UTF8_H_

#include <cstddef>
#include <string_view>

namespace oakum {

// The length of the well-formed UTF-8 sequence at the start of `text`, which is not empty; 0 if
// there is none (overlong forms, surrogates and values beyond U+10FFFF are none).
[[nodiscard]] size_t Utf8Length(std::string_view text);

}  // namespace oakum

#endif  // OAKUM_BASE_UTF8_H_
