#include "cli/seccomp_profile.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

namespace oakum::cli {

namespace {

using oci::Json;

Expected<std::vector<std::string>> Strings(const Json& value, std::string_view what) {
  std::vector<std::string> out;
  if (value.is_null()) {
    return out;
  }
  if (!value.is_array()) {
    return MakeError(EINVAL, fmt::format("{} must be an array", what));
  }
  for (const Json& item : value) {
    if (!item.is_string()) {
      return MakeError(EINVAL, fmt::format("{} must hold strings", what));
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

bool Holds(std::span<const std::string> list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// One of "includes" and "excludes".
struct Filter {
  std::vector<std::string> caps;
  std::vector<std::string> arches;
  bool has_kernel = false;
  bool kernel_reached = false;  // whether this kernel is minKernel or later
};

Expected<Filter> ReadFilter(const Json& rule, const char* key, const ProfileTarget& target) {
  Filter filter;
  const auto found = rule.find(key);
  if (found == rule.end() || found->is_null()) {
    return filter;
  }
  if (!found->is_object()) {
    return MakeError(EINVAL, fmt::format("\"{}\" must be an object", key));
  }
  for (const auto& [name, value] : found->items()) {
    if (name == "caps" || name == "arches") {
      auto list = Strings(value, fmt::format("\"{}.{}\"", key, name));
      if (!list) {
        return std::unexpected(std::move(list.error()));
      }
      (name == "caps" ? filter.caps : filter.arches) = std::move(*list);
    } else if (name == "minKernel" && value.is_string()) {
      int major = 0;
      int minor = 0;
      if (std::sscanf(value.get<std::string>().c_str(), "%d.%d", &major, &minor) != 2) {
        return MakeError(EINVAL, fmt::format("\"{}.minKernel\" must be like \"4.8\"", key));
      }
      filter.has_kernel = true;
      filter.kernel_reached =
          std::pair(target.kernel_major, target.kernel_minor) >= std::pair(major, minor);
    } else {
      return MakeError(EINVAL,
                       fmt::format("unknown condition \"{}\" in \"{}\"", Escape(name), key));
    }
  }
  return filter;
}

// Whether the engine takes the rule into a container's section: excluded by any condition of
// "excludes", included only by all of "includes".
Expected<bool> Applies(const Json& rule, const ProfileTarget& target) {
  const auto excludes = ReadFilter(rule, "excludes", target);
  if (!excludes) {
    return std::unexpected(excludes.error());
  }
  const auto includes = ReadFilter(rule, "includes", target);
  if (!includes) {
    return std::unexpected(includes.error());
  }
  const auto has = [&](const std::string& cap) { return Holds(target.capabilities, cap); };
  const bool excluded = std::any_of(excludes->caps.begin(), excludes->caps.end(), has) ||
                        Holds(excludes->arches, target.go_arch) ||
                        (excludes->has_kernel && excludes->kernel_reached);
  const bool included = std::all_of(includes->caps.begin(), includes->caps.end(), has) &&
                        (includes->arches.empty() || Holds(includes->arches, target.go_arch)) &&
                        (!includes->has_kernel || includes->kernel_reached);
  return !excluded && included;
}

// The rule without what only engines read; `name` of old profiles becomes `names`.
Json PlainRule(const Json& rule) {
  Json plain = Json::object();
  for (const auto& [key, value] : rule.items()) {
    if (key == "name") {
      plain["names"] = Json::array({value});
    } else if (key != "includes" && key != "excludes" && !value.is_null()) {
      plain[key] = value;
    }
  }
  return plain;
}

Expected<Json> Architectures(const Json& map, const ProfileTarget& target) {
  Json architectures = Json::array();
  if (!map.is_array()) {
    return MakeError(EINVAL, "\"archMap\" must be an array");
  }
  for (const Json& entry : map) {
    if (!entry.is_object() || entry.value("architecture", Json()) != target.scmp_arch) {
      continue;
    }
    architectures.push_back(target.scmp_arch);
    auto subs = Strings(entry.value("subArchitectures", Json()), "\"subArchitectures\"");
    if (!subs) {
      return std::unexpected(std::move(subs.error()));
    }
    for (std::string& sub : *subs) {
      architectures.push_back(std::move(sub));
    }
  }
  return architectures;
}

Expected<Json> ResolveRules(const Json& rules, const ProfileTarget& target) {
  Json resolved = Json::array();
  if (!rules.is_array()) {
    return MakeError(EINVAL, "\"syscalls\" must be an array");
  }
  for (const Json& rule : rules) {
    if (!rule.is_object()) {
      return MakeError(EINVAL, "\"syscalls\" must hold objects");
    }
    const auto applies = Applies(rule, target);
    if (!applies) {
      return std::unexpected(applies.error());
    }
    if (*applies) {
      resolved.push_back(PlainRule(rule));
    }
  }
  return resolved;
}

}  // namespace

Expected<ProfileTarget> NativeTarget(std::span<const std::string> capabilities) {
  ProfileTarget target;
  target.capabilities = capabilities;
  utsname name = {};
  if (uname(&name) != 0) {
    return ErrnoError("uname");
  }
  const std::string_view machine = name.machine;
  if (machine == "x86_64") {
    target.go_arch = "amd64";
    target.scmp_arch = "SCMP_ARCH_X86_64";
  } else if (machine == "aarch64") {
    target.go_arch = "arm64";
    target.scmp_arch = "SCMP_ARCH_AARCH64";
  } else {
    return MakeError(ENOTSUP, fmt::format("no name for the architecture {} in profiles", machine));
  }
  (void)std::sscanf(name.release, "%d.%d", &target.kernel_major, &target.kernel_minor);
  return target;
}

Expected<Json> ResolveProfile(const Json& profile, const ProfileTarget& target) {
  if (!profile.is_object()) {
    return MakeError(EINVAL, "a profile is a JSON object");
  }
  if (const auto linux_section = profile.find("linux"); linux_section != profile.end()) {
    return linux_section->is_object() ? linux_section->value("seccomp", Json()) : Json();
  }
  Json section = Json::object();
  for (const auto& [key, value] : profile.items()) {
    if (key == "archMap") {
      auto architectures = Architectures(value, target);
      if (!architectures) {
        return std::unexpected(std::move(architectures.error()));
      }
      section["architectures"] = std::move(*architectures);
    } else if (key == "syscalls" && !value.is_null()) {
      auto rules = ResolveRules(value, target);
      if (!rules) {
        return std::unexpected(std::move(rules.error()));
      }
      section["syscalls"] = std::move(*rules);
    } else if (!value.is_null()) {
      section[key] = value;
    }
  }
  return section;
}

}  // namespace oakum::cli
