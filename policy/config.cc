#include "policy/config.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/trusted_path.h"
#include "policy/jsonc.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

enum class Meaning : uint8_t { kPath, kPathOrName, kPathOrDash, kText, kWhen };

struct Key {
  std::string_view name;
  std::string Config::* member;
  Meaning meaning;
};

constexpr std::array<Key, 8> kKeys = {{{"runtime", &Config::runtime, Meaning::kPathOrName},
                                       {"socket", &Config::socket, Meaning::kPath},
                                       {"policy", &Config::policy, Meaning::kPath},
                                       {"events", &Config::events, Meaning::kPathOrDash},
                                       {"metrics", &Config::metrics, Meaning::kText},
                                       {"control", &Config::control, Meaning::kPath},
                                       {"control_group", &Config::control_group, Meaning::kText},
                                       {"wait_killable", nullptr, Meaning::kWhen}}};

// What is wrong with the value, or nothing.
std::string_view Complaint(Meaning meaning, std::string_view text) {
  if (text.empty()) {
    return "is empty; leave the key out instead";
  }
  const bool absolute = text.starts_with('/');
  switch (meaning) {
    case Meaning::kPath:
      return absolute ? "" : "must be an absolute path";
    case Meaning::kPathOrName:
      return absolute || text.find('/') == std::string_view::npos
                 ? ""
                 : "must be a name, such as \"runc\", or an absolute path";
    case Meaning::kPathOrDash:
      return absolute || text == "-" ? "" : "must be an absolute path or \"-\"";
    case Meaning::kWhen:
      return ParseWaitKillable(text) ? "" : "must be \"auto\", \"on\" or \"off\"";
    case Meaning::kText:
      return "";
  }
  return "";
}

void ReadKey(const jsonc::Member& member, Config& config, Diagnostics& diagnostics) {
  for (const Key& key : kKeys) {
    if (key.name != member.key) {
      continue;
    }
    if (member.value.kind != jsonc::Kind::kString) {
      diagnostics.Add(member.value.at, fmt::format("\"{}\" must be a string, not {}", key.name,
                                                   jsonc::KindName(member.value.kind)));
    } else if (const std::string_view what = Complaint(key.meaning, member.value.text);
               !what.empty()) {
      diagnostics.Add(member.value.at, fmt::format("\"{}\" {}", key.name, what));
    } else if (key.member == nullptr) {
      config.wait_killable = *ParseWaitKillable(member.value.text);
    } else {
      config.*key.member = member.value.text;
    }
    return;
  }
  std::vector<std::string_view> names;
  for (const Key& key : kKeys) {
    names.push_back(key.name);
  }
  diagnostics.Add(member.key_at, fmt::format("unknown key \"{}\"{}", Escape(member.key),
                                             DidYouMean(member.key, names)));
}

}  // namespace

std::optional<WaitKillable> ParseWaitKillable(std::string_view word) {
  if (word == "auto") {
    return WaitKillable::kAuto;
  }
  if (word == "on") {
    return WaitKillable::kOn;
  }
  if (word == "off") {
    return WaitKillable::kOff;
  }
  return std::nullopt;
}

Expected<Config> ParseConfig(std::string_view text, std::string_view name,
                             const Locations& locations) {
  Sources sources;
  const uint32_t file = sources.Add(std::string(name), std::string(text));
  Diagnostics diagnostics(sources);
  Config config;
  config.socket = locations.socket;
  config.policy = locations.policy;
  const auto document = jsonc::Parse(sources, file, jsonc::Comments::kAllowed, diagnostics);
  if (document && document->root.kind != jsonc::Kind::kObject) {
    diagnostics.Add(document->root.at, "the configuration must be an object");
  } else if (document) {
    for (const jsonc::Member& member : document->root.members) {
      ReadKey(member, config, diagnostics);
    }
  }
  if (!diagnostics.ok()) {
    return std::unexpected(diagnostics.ToError());
  }
  return config;
}

Expected<Config> LoadConfig(const std::optional<std::string>& option, const char* variable,
                            const Locations& locations) {
  const bool from_variable = !option && variable != nullptr && *variable != '\0';
  const std::string path = option ? *option : from_variable ? variable : locations.config;
  // Who can change it says which policy holds, and who decides by it.
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (auto ours = error ? Expected<void>() : CheckNotEverybodysToChange(absolute); !ours) {
    return std::unexpected(std::move(ours.error()).Context("configuration"));
  }
  auto text = ReadFile(path, kMaxConfigSize);
  if (!text) {
    if (!option && !from_variable && text.error().code == ENOENT) {
      return ParseConfig("{}", path, locations);
    }
    return std::unexpected(std::move(text.error()).Context("configuration"));
  }
  return ParseConfig(*text, path, locations);
}

}  // namespace oakum::policy
