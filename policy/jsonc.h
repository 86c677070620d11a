// JSON with // comments, every key and value with its place in the file.
#ifndef OAKUM_POLICY_JSONC_H_
#define OAKUM_POLICY_JSONC_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/source.h"

namespace oakum::policy::jsonc {

inline constexpr size_t kMaxNesting = 32;

enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

// "a string", "an object", ...
[[nodiscard]] std::string_view KindName(Kind kind);

struct Member;

struct Value {
  Kind kind = Kind::kNull;
  bool boolean = false;
  Location at;                  // of its first byte
  std::string_view text;        // kString: its characters, escapes resolved; kNumber: as written
  std::vector<Value> items;     // kArray
  std::vector<Member> members;  // kObject, in the order of the file

  // The member of that key, or null.
  [[nodiscard]] const Value* Find(std::string_view key) const;
};

struct Member {
  std::string_view key;
  Location key_at;
  Value value;
};

struct Document {
  Value root;
  std::deque<std::string> unescaped;  // what strings with escapes point into
};

enum class Comments : uint8_t { kAllowed, kRefused };

// Parses file `number` of `sources`, which must outlive the document. RFC 8259, and with
// Comments::kAllowed also `//` to the end of a line wherever white space may stand. Refuses
// duplicate keys, NUL characters, strings that are not UTF-8 and nesting beyond kMaxNesting.
// Nothing is returned when something was added to `diagnostics`.
[[nodiscard]] std::optional<Document> Parse(const Sources& sources, uint32_t number,
                                            Comments comments, Diagnostics& diagnostics);

}  // namespace oakum::policy::jsonc

#endif  // OAKUM_POLICY_JSONC_H_
