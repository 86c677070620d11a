// A container's config.json: what is known from it, and the edit that guards the container.
#ifndef OAKUM_OCI_CONFIG_H_
#define OAKUM_OCI_CONFIG_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "oci/json.h"
#include "oci/seccomp_merge.h"
#include "oci/seccomp_plan.h"

namespace oakum::oci {

// One entry of `mounts`; empty where the key is absent.
struct ConfigMount {
  std::string destination;
  std::string type;
  std::string source;

  bool operator==(const ConfigMount&) const = default;
};

// Plain values of a config.json (runtime-spec config.md and config-linux.md); empty where a key is
// absent.
struct ConfigFacts {
  std::string oci_version;
  std::string hostname;
  std::string root_path;          // root.path, relative to the bundle unless absolute
  std::vector<std::string> args;  // process.args
  std::vector<std::string> env;   // process.env, "NAME=value"
  std::string cgroups_path;       // linux.cgroupsPath
  std::vector<ConfigMount> mounts;
  std::map<std::string, std::string> annotations;
};

// Offsets into a text: of the first byte, and behind the last.
struct TextSpan {
  size_t begin = 0;
  size_t end = 0;
};

// A config.json that has been parsed, but for `linux.seccomp` where that is an object: an engine's
// profile is most of the text, and whoever knows it from before need not have it read. Refers to
// the text that it was made of.
class ConfigDocument {
 public:
  // Errors: EINVAL, "config.json:LINE:COLUMN: ...", when the text is not a JSON object. One that is
  // none inside of `linux.seccomp` only is told by ListenerPath and MergeSeccomp.
  [[nodiscard]] static Expected<ConfigDocument> Parse(std::string_view config_json);

  // Errors: EINVAL, "config.json: KEY must be ...".
  [[nodiscard]] Expected<ConfigFacts> Facts() const;

  // The text of `linux.seccomp`, as it is, empty when it is absent or null: with the text of a JSON
  // object in its place the document is one without duplicate keys. Errors: EINVAL when the
  // document describes a container of another platform, or has a key that runc would take for
  // `linux` or `linux.seccomp` though it is written differently.
  [[nodiscard]] Expected<std::string_view> Seccomp() const;

  // linux.seccomp.listenerPath, empty where that is absent. Errors: EINVAL, as of Parse and Facts.
  [[nodiscard]] Expected<std::string> ListenerPath();

  // That section merged with `plan` (MergeSeccomp), as JSON text. The document's own section is
  // used up. Errors: those of Parse, of Seccomp and of MergeSeccomp.
  [[nodiscard]] Expected<std::string> MergeSeccomp(const SeccompPlan& plan,
                                                   const ListenerConfig& listener);

  // The text with `section` in the place of `linux.seccomp`, or inserted where there was none.
  // Every byte outside of it stays as it was.
  [[nodiscard]] std::string ReplaceSeccomp(std::string_view section) const;

 private:
  // `section`: where the text has what is not parsed yet; {} stands for it in `json`.
  ConfigDocument(std::string_view text, Json json, std::optional<TextSpan> section)
      : text_(text), json_(std::move(json)), section_(section), section_is_parsed_(!section) {}

  // Errors: as of Parse.
  [[nodiscard]] Expected<void> ParseSection();

  std::string_view text_;
  Json json_;
  std::optional<TextSpan> section_;
  bool section_is_parsed_;
};

}  // namespace oakum::oci

#endif  // OAKUM_OCI_CONFIG_H_
