#include "hook/bundle_config.h"

#include <utility>

#include "base/file.h"
#include "hook/engine_record.h"
#include "oci/json.h"

namespace oakum::hook {

namespace {

constexpr char kSuffix[] = ".oakum";
constexpr char kOriginal[] = "original";
constexpr char kEdited[] = "edited";

}  // namespace

std::string BeforeEdit(const std::string& config_path, std::string current) {
  const auto text = ReadEngineFile(config_path + kSuffix);
  if (!text) {
    return current;
  }
  const auto memory = oci::ParseJson(*text, config_path + kSuffix);
  if (!memory || !memory->is_object()) {
    return current;
  }
  const auto original = memory->find(kOriginal);
  const auto edited = memory->find(kEdited);
  if (original == memory->end() || !original->is_string() || edited == memory->end() ||
      *edited != current) {
    return current;
  }
  return original->get<std::string>();
}

Expected<void> RememberEdit(const std::string& config_path, const std::string& original,
                            const std::string& edited) {
  const oci::Json memory = {{kOriginal, original}, {kEdited, edited}};
  return ReplaceFile(config_path + kSuffix, memory.dump() + "\n");
}

}  // namespace oakum::hook
