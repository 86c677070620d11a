// JSON text to ordered documents and back: strict where nlohmann_json is lenient.
#ifndef OAKUM_OCI_JSON_H_
#define OAKUM_OCI_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace oakum::oci {

// Key order is kept; integers keep their full 64 bits, signed or unsigned.
using Json = nlohmann::ordered_json;

// Parses one JSON text (RFC 8259). Refuses duplicate keys (nlohmann_json would keep the last one
// silently), nesting deeper than 128 levels, integers outside 64 bits (nlohmann_json would round
// them to a double), a byte order mark and anything after the value.
// Errors: EINVAL, "NAME:LINE:COLUMN: what is wrong" (line and column from 1, column in bytes).
[[nodiscard]] Expected<Json> ParseJson(std::string_view text, std::string_view name);

// "LINE:COLUMN" of the byte at `offset`, both from 1, the column in bytes.
[[nodiscard]] std::string LineAndColumn(std::string_view text, size_t offset);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_JSON_H_
