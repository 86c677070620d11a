// The command line of an OCI runtime, read as runc and crun read it.
#ifndef OAKUM_HOOK_RUNTIME_COMMAND_H_
#define OAKUM_HOOK_RUNTIME_COMMAND_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace oakum::hook {

// Where a runtime's errors go: what --log and --log-format say, before the command.
struct LogOptions {
  std::string path;   // empty: stderr only
  bool json = false;  // --log-format json
};

// Never fails: an error in the rest of the command line is reported through it.
[[nodiscard]] LogOptions FindLogOptions(std::span<const std::string> arguments);

struct RuntimeCommand {
  std::string name;               // "create"; empty when there is only --help or --version
  bool starts_container = false;  // create and run: the bundle's config.json is edited first
  std::string bundle = ".";       // as given
  std::string config_file;        // crun's --config: the file instead of BUNDLE/config.json
  std::string container_id;       // of create and run
  std::optional<std::string> oakum_config;  // --oakum-config
  // What the real runtime gets: the same, without --oakum-config. In create and run one `--bundle
  // BUNDLE` stands right behind the command whatever the spelling and place were: runc's and crun's
  // parsers differ in the odd cases, and the bundle that was guarded must be the one that is run.
  std::vector<std::string> arguments;
};

// `arguments` without the program's name. Errors: EINVAL for what neither runtime knows before the
// command or in create and run (an option that takes a value could hide the bundle), ENOTSUP for
// restore: CRIU brings back the filter of the checkpoint, not the one in config.json.
[[nodiscard]] Expected<RuntimeCommand> ParseRuntimeCommand(std::span<const std::string> arguments);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_RUNTIME_COMMAND_H_
