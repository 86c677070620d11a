// The published JSON Schema of the policy file.
#ifndef OAKUM_POLICY_SCHEMA_H_
#define OAKUM_POLICY_SCHEMA_H_

#include <string_view>

namespace oakum::policy {

// The text of schema.json (JSON Schema, draft 2020-12), with a newline at its end. It describes the
// file after // comments have been taken out.
[[nodiscard]] std::string_view SchemaText();

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_SCHEMA_H_
