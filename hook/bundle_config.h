// The config.json of a bundle that a person keeps, edited more than once.
#ifndef OAKUM_HOOK_BUNDLE_CONFIG_H_
#define OAKUM_HOOK_BUNDLE_CONFIG_H_

#include <string>

#include "base/error.h"

namespace oakum::hook {

// Engines write a new config.json for each start. A bundle that is run by hand keeps the one that
// we edited; with another policy the next time, the edit must start from what was there before us.
// `config_path`.oakum remembers both texts.
//
// Returns `current`, or the text before our edit when `current` is exactly what we made of it. A
// remembered file that does not fit, or none, means `current`.
[[nodiscard]] std::string BeforeEdit(const std::string& config_path, std::string current);

// Remembers that `edited` was made from `original`. Errors: those of ReplaceFile.
[[nodiscard]] Expected<void> RememberEdit(const std::string& config_path,
                                          const std::string& original, const std::string& edited);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_BUNDLE_CONFIG_H_
