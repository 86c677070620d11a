#include "hook/runtime_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace oakum::hook {

namespace {

enum class Value : uint8_t { kNone, kRequired };

struct Option {
  std::string_view name;  // without dashes
  Value value;
};

// Options of runc 1.0 to 1.5 and crun 0.15 to 1.20 (their --help). An option of the same name means
// the same in both.
constexpr std::array<Option, 17> kGlobalOptions = {{{"debug", Value::kNone},
                                                    {"log", Value::kRequired},
                                                    {"log-format", Value::kRequired},
                                                    {"log-level", Value::kRequired},
                                                    {"root", Value::kRequired},
                                                    {"criu", Value::kRequired},
                                                    {"rootless", Value::kRequired},
                                                    {"cgroup-manager", Value::kRequired},
                                                    {"systemd-cgroup", Value::kNone},
                                                    {"help", Value::kNone},
                                                    {"h", Value::kNone},
                                                    {"?", Value::kNone},
                                                    {"usage", Value::kNone},
                                                    {"version", Value::kNone},
                                                    {"v", Value::kNone},
                                                    {"V", Value::kNone},
                                                    {"oakum-config", Value::kRequired}}};
constexpr std::array<Option, 17> kStartOptions = {{{"bundle", Value::kRequired},
                                                   {"b", Value::kRequired},
                                                   {"config", Value::kRequired},
                                                   {"f", Value::kRequired},
                                                   {"console-socket", Value::kRequired},
                                                   {"pidfd-socket", Value::kRequired},
                                                   {"pid-file", Value::kRequired},
                                                   {"preserve-fds", Value::kRequired},
                                                   {"no-pivot", Value::kNone},
                                                   {"no-new-keyring", Value::kNone},
                                                   {"no-subreaper", Value::kNone},
                                                   {"detach", Value::kNone},
                                                   {"d", Value::kNone},
                                                   {"keep", Value::kNone},
                                                   {"help", Value::kNone},
                                                   {"h", Value::kNone},
                                                   {"usage", Value::kNone}}};

// One word of the command line that begins with a dash, with its value.
struct Parsed {
  std::string_view name;
  Value takes;
  std::optional<std::string> value;
  size_t words = 1;  // how many arguments it took
};

bool IsHelp(std::string_view name) {
  return name == "help" || name == "h" || name == "usage" || name == "?";
}

bool IsOption(std::string_view word) { return word.size() > 1 && word.starts_with('-'); }

// Both dashes or one, "=value" or the next word, as Go's flag package has it; getopt_long(3) agrees
// on everything that this accepts.
Expected<Parsed> ParseOption(std::span<const std::string> rest, std::span<const Option> known,
                             std::string_view where) {
  std::string_view word = rest.front();
  word.remove_prefix(word.starts_with("--") ? 2 : 1);
  const size_t equals = word.find('=');
  const auto found = std::ranges::find(known, word.substr(0, equals), &Option::name);
  if (found == known.end()) {
    return MakeError(EINVAL, fmt::format("unknown option \"{}\" {}: neither runc nor crun has it, "
                                         "and it may hide which bundle is meant",
                                         Escape(rest.front()), where));
  }
  Parsed parsed = {.name = found->name, .takes = found->value, .value = std::nullopt};
  if (equals != std::string_view::npos) {
    parsed.value = std::string(word.substr(equals + 1));
  }
  switch (found->value) {
    case Value::kNone:
      // "--help=false --help" and the like: what the runtime makes of it decides whether there is a
      // container.
      if (parsed.value && IsHelp(parsed.name)) {
        return MakeError(
            EINVAL, fmt::format("option \"{}\" {} takes no value", Escape(rest.front()), where));
      }
      break;
    case Value::kRequired:
      if (!parsed.value) {
        if (rest.size() < 2) {
          return MakeError(
              EINVAL, fmt::format("option \"{}\" {} needs a value", Escape(rest.front()), where));
        }
        parsed.value = rest[1];
        parsed.words = 2;
      }
      break;
  }
  return parsed;
}

// The option as every parser reads it: "--name=value" or, since "-f=x" is "=x" to getopt_long(3),
// two words.
void Append(const Parsed& option, std::vector<std::string>& words) {
  words.push_back(fmt::format("{}{}", option.name.size() > 1 ? "--" : "-", option.name));
  if (!option.value) {
    return;
  }
  if (option.name.size() == 1 && option.takes == Value::kRequired) {
    words.push_back(*option.value);
  } else {
    words.back().append("=").append(*option.value);
  }
}

Expected<void> ParseStart(std::span<const std::string> rest, RuntimeCommand& command) {
  const std::string where = fmt::format("of {}", command.name);
  std::vector<std::string> kept;
  std::vector<std::string> operands;
  while (!rest.empty()) {
    if (!IsOption(rest.front())) {
      operands.push_back(rest.front());
      rest = rest.subspan(1);
      continue;
    }
    if (rest.front() == "--") {
      operands.insert(operands.end(), rest.begin() + 1, rest.end());
      break;
    }
    auto option = ParseOption(rest, kStartOptions, where);
    if (!option) {
      return std::unexpected(std::move(option.error()));
    }
    if (option->name == "bundle" || option->name == "b") {
      command.bundle = *option->value;
    } else {
      if (option->name == "config" || option->name == "f") {
        command.config_file = *option->value;
      }
      Append(*option, kept);
    }
    if (IsHelp(option->name)) {
      command.starts_container = false;
    }
    rest = rest.subspan(option->words);
  }
  if (!command.starts_container) {
    return {};
  }
  if (command.bundle.empty()) {
    return MakeError(EINVAL, fmt::format("option \"--bundle\" {} is empty", where));
  }
  if (operands.size() != 1 || operands.front().empty() || operands.front().starts_with('-')) {
    return MakeError(EINVAL, fmt::format("{} takes one container id, \"{} [options] ID\"",
                                         command.name, command.name));
  }
  command.container_id = operands.front();
  // In this order runc's and crun's parsers cannot disagree: options, then the one operand.
  command.arguments.insert(command.arguments.end(), {"--bundle", command.bundle});
  command.arguments.insert(command.arguments.end(), kept.begin(), kept.end());
  command.arguments.push_back(command.container_id);
  return {};
}

}  // namespace

LogOptions FindLogOptions(std::span<const std::string> arguments) {
  LogOptions log;
  while (!arguments.empty() && IsOption(arguments.front()) && arguments.front() != "--") {
    const auto option = ParseOption(arguments, kGlobalOptions, "");
    if (!option) {
      arguments = arguments.subspan(1);
      continue;
    }
    if (option->name == "log") {
      log.path = *option->value;
    } else if (option->name == "log-format") {
      log.json = *option->value == "json";
    }
    arguments = arguments.subspan(option->words);
  }
  return log;
}

Expected<RuntimeCommand> ParseRuntimeCommand(std::span<const std::string> arguments) {
  RuntimeCommand command;
  while (!arguments.empty() && IsOption(arguments.front()) && arguments.front() != "--") {
    auto option = ParseOption(arguments, kGlobalOptions, "before the command");
    if (!option) {
      return std::unexpected(std::move(option.error()));
    }
    if (option->name == "oakum-config") {
      command.oakum_config = *option->value;
    } else {
      command.arguments.insert(command.arguments.end(), arguments.begin(),
                               arguments.begin() + static_cast<ptrdiff_t>(option->words));
    }
    arguments = arguments.subspan(option->words);
  }
  if (!arguments.empty() && arguments.front() == "--") {
    return MakeError(EINVAL, "\"--\" before the command: runc and crun read it differently");
  }
  if (arguments.empty()) {
    return command;
  }
  command.name = arguments.front();
  if (command.name == "restore") {
    return MakeError(ENOTSUP,
                     "restore: a restored container has the seccomp filter of its checkpoint and "
                     "would not be guarded; create it anew instead");
  }
  command.starts_container = command.name == "create" || command.name == "run";
  if (!command.starts_container) {
    command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
    return command;
  }
  command.arguments.push_back(command.name);
  if (auto parsed = ParseStart(arguments.subspan(1), command); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
  if (!command.starts_container) {
    command.arguments.insert(command.arguments.end(), arguments.begin() + 1, arguments.end());
  }
  return command;
}

}  // namespace oakum::hook
