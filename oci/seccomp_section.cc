#include "oci/seccomp_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "oci/arg_condition.h"

namespace oakum::oci {

namespace {

constexpr std::array kActions = std::to_array<std::pair<std::string_view, ActionKind>>({
    {"SCMP_ACT_ALLOW", ActionKind::kAllow},
    {"SCMP_ACT_LOG", ActionKind::kLog},
    {"SCMP_ACT_NOTIFY", ActionKind::kNotify},
    {"SCMP_ACT_ERRNO", ActionKind::kErrno},
    {"SCMP_ACT_TRACE", ActionKind::kTrace},
    {"SCMP_ACT_TRAP", ActionKind::kTrap},
    {"SCMP_ACT_KILL", ActionKind::kKillThread},
    {"SCMP_ACT_KILL_THREAD", ActionKind::kKillThread},
    {"SCMP_ACT_KILL_PROCESS", ActionKind::kKillProcess},
});

constexpr std::array kCompares = std::to_array<std::pair<std::string_view, Compare>>({
    {"SCMP_CMP_NE", Compare::kNotEqual},
    {"SCMP_CMP_LT", Compare::kLess},
    {"SCMP_CMP_LE", Compare::kLessOrEqual},
    {"SCMP_CMP_EQ", Compare::kEqual},
    {"SCMP_CMP_GE", Compare::kGreaterOrEqual},
    {"SCMP_CMP_GT", Compare::kGreater},
    {"SCMP_CMP_MASKED_EQ", Compare::kMaskedEqual},
});

template <typename Value, size_t kSize>
const Value* Lookup(const std::array<std::pair<std::string_view, Value>, kSize>& table,
                    std::string_view name) {
  const auto* found = std::ranges::find(table, name, [](const auto& entry) { return entry.first; });
  return found == table.end() ? nullptr : &found->second;
}

template <typename Value, size_t kSize>
std::string_view NameOf(const std::array<std::pair<std::string_view, Value>, kSize>& table,
                        Value value) {
  const auto* found =
      std::ranges::find(table, value, [](const auto& entry) { return entry.second; });
  return found == table.end() ? std::string_view() : found->first;
}

// The member, nullptr when it is absent or null, which Go and libocispec take for the same.
const Json* Find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::unexpected<Error> Wrong(std::string_view path, std::string_view what) {
  return MakeError(EINVAL, fmt::format("{}: {}", path, what));
}

Expected<std::vector<std::string>> ParseStrings(const Json& list, std::string_view path) {
  std::vector<std::string> strings;
  if (!list.is_array()) {
    return Wrong(path, "must be a list of strings");
  }
  for (const Json& item : list) {
    if (!item.is_string()) {
      return Wrong(path, "must be a list of strings");
    }
    strings.push_back(item.get_ref<const std::string&>());
  }
  return strings;
}

Expected<std::string> ParseString(const Json& object, const char* key, std::string_view path) {
  const Json* value = Find(object, key);
  if (value == nullptr) {
    return std::string();
  }
  if (!value->is_string()) {
    return Wrong(fmt::format("{}{}", path, key), "must be a string");
  }
  return value->get_ref<const std::string&>();
}

Expected<uint64_t> ParseNumber(const Json& object, const char* key, uint64_t fallback,
                               uint64_t limit, std::string_view path) {
  const Json* value = Find(object, key);
  if (value == nullptr) {
    return fallback;
  }
  if (!value->is_number_unsigned() || value->get<uint64_t>() > limit) {
    return Wrong(fmt::format("{}{}", path, key), fmt::format("must be an integer in 0..{}", limit));
  }
  return value->get<uint64_t>();
}

// `action_key` and `errno_key` of `object`. EPERM is what both runtimes take without an errno.
Expected<SeccompAction> ParseAction(const Json& object, const char* action_key,
                                    const char* errno_key, std::string_view path) {
  const Expected<std::string> name = ParseString(object, action_key, path);
  if (!name) {
    return std::unexpected(name.error());
  }
  const ActionKind* kind = Lookup(kActions, *name);
  if (kind == nullptr) {
    return Wrong(fmt::format("{}{}", path, action_key),
                 name->empty() ? std::string("is missing")
                               : fmt::format("unknown action \"{}\"", Escape(*name)));
  }
  const Expected<uint64_t> data = ParseNumber(object, errno_key, EPERM, UINT16_MAX, path);
  if (!data) {
    return std::unexpected(data.error());
  }
  const bool has_data = *kind == ActionKind::kErrno || *kind == ActionKind::kTrace;
  return SeccompAction{*kind, has_data ? static_cast<uint16_t>(*data) : uint16_t{0}};
}

Expected<ArgCondition> ParseArg(const Json& arg, std::string_view path) {
  if (!arg.is_object()) {
    return Wrong(path, "must be an object");
  }
  if (auto folded = RefuseFoldedKeys(arg, {"index", "value", "valueTwo", "op"}); !folded) {
    return std::unexpected(std::move(folded.error()).Context(path));
  }
  const std::string prefix = fmt::format("{}.", path);
  const auto index = ParseNumber(arg, "index", 0, kArgCount - 1, prefix);
  const auto value = ParseNumber(arg, "value", 0, UINT64_MAX, prefix);
  const auto value_two = ParseNumber(arg, "valueTwo", 0, UINT64_MAX, prefix);
  const auto op = ParseString(arg, "op", prefix);
  for (const auto* number : {&index, &value, &value_two}) {
    if (!*number) {
      return std::unexpected(number->error());
    }
  }
  if (!op) {
    return std::unexpected(op.error());
  }
  const Compare* compare = Lookup(kCompares, *op);
  if (compare == nullptr) {
    return Wrong(prefix + "op", fmt::format("unknown operator \"{}\"", Escape(*op)));
  }
  const bool masked = *compare == Compare::kMaskedEqual;
  return ArgCondition{static_cast<uint32_t>(*index), *compare, *value, masked ? *value_two : 0};
}

Expected<SeccompRule> ParseRule(const Json& entry, const std::string& path) {
  if (!entry.is_object()) {
    return Wrong(path, "must be an object");
  }
  if (auto folded = RefuseFoldedKeys(entry, {"names", "action", "errnoRet", "args"}); !folded) {
    return std::unexpected(std::move(folded.error()).Context(path));
  }
  SeccompRule rule;
  if (const Json* names = Find(entry, "names")) {
    auto strings = ParseStrings(*names, path + ".names");
    if (!strings) {
      return std::unexpected(strings.error());
    }
    rule.names = *std::move(strings);
  }
  const auto action = ParseAction(entry, "action", "errnoRet", path + ".");
  if (!action) {
    return std::unexpected(action.error());
  }
  rule.action = *action;
  if (const Json* args = Find(entry, "args")) {
    if (!args->is_array()) {
      return Wrong(path + ".args", "must be a list");
    }
    // crun reads the first six only, runc all: with more they would disagree.
    if (args->size() > kArgCount) {
      return Wrong(path + ".args", fmt::format("more than {} conditions", kArgCount));
    }
    for (size_t i = 0; i < args->size(); ++i) {
      const auto condition = ParseArg((*args)[i], fmt::format("{}.args[{}]", path, i));
      if (!condition) {
        return std::unexpected(condition.error());
      }
      rule.args.push_back(*condition);
    }
  }
  return rule;
}

// What Go's encoding/json compares keys by: case is folded, and two characters outside of ASCII
// fold into it (U+017F to s, U+212A to k).
std::string Fold(std::string_view key) {
  std::string folded;
  while (!key.empty()) {
    if (key.starts_with("\xc5\xbf")) {
      folded.push_back('s');
      key.remove_prefix(2);
    } else if (key.starts_with("\xe2\x84\xaa")) {
      folded.push_back('k');
      key.remove_prefix(3);
    } else {
      const char c = key[0];
      folded.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
      key.remove_prefix(1);
    }
  }
  return folded;
}

bool Repeats(const std::vector<ArgCondition>& args) {
  std::array<int, kArgCount> count = {};
  return std::ranges::any_of(args, [&](const ArgCondition& arg) { return ++count[arg.index] > 1; });
}

}  // namespace

std::vector<std::vector<ArgCondition>> Alternatives(const SeccompRule& rule) {
  if (!Repeats(rule.args)) {
    return {rule.args};
  }
  std::vector<std::vector<ArgCondition>> alternatives;
  alternatives.reserve(rule.args.size());
  for (const ArgCondition& arg : rule.args) {
    alternatives.push_back({arg});
  }
  return alternatives;
}

Expected<void> RefuseFoldedKeys(const Json& object, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.get_ref<const Json::object_t&>()) {
    if (std::ranges::find(known, std::string_view(key)) != known.end()) {
      continue;
    }
    const std::string folded = Fold(key);
    for (const std::string_view name : known) {
      if (folded == Fold(name)) {
        return MakeError(EINVAL, fmt::format("key \"{}\" would be read as \"{}\" by some runtimes; "
                                             "write it so or remove it",
                                             Escape(key), name));
      }
    }
  }
  return {};
}

Expected<SeccompSection> ParseSeccompSection(const Json& section) {
  if (!section.is_object()) {
    return MakeError(EINVAL, "must be an object");
  }
  if (auto folded =
          RefuseFoldedKeys(section, {"defaultAction", "defaultErrnoRet", "architectures", "flags",
                                     "listenerPath", "listenerMetadata", "syscalls"});
      !folded) {
    return std::unexpected(folded.error());
  }
  SeccompSection parsed;
  const auto action = ParseAction(section, "defaultAction", "defaultErrnoRet", "");
  if (!action) {
    return std::unexpected(action.error());
  }
  parsed.default_action = *action;
  if (const Json* architectures = Find(section, "architectures")) {
    auto strings = ParseStrings(*architectures, "architectures");
    if (!strings) {
      return std::unexpected(strings.error());
    }
    for (const std::string& token : *strings) {
      if (FindArch(token) == nullptr) {
        return Wrong("architectures", fmt::format("unknown architecture \"{}\"", Escape(token)));
      }
    }
    parsed.architectures = *std::move(strings);
  }
  if (const Json* flags = Find(section, "flags")) {
    auto strings = ParseStrings(*flags, "flags");
    if (!strings) {
      return std::unexpected(strings.error());
    }
    parsed.flags = *std::move(strings);
  }
  auto path = ParseString(section, "listenerPath", "");
  if (!path) {
    return std::unexpected(path.error());
  }
  parsed.listener_path = *std::move(path);
  if (const Json* syscalls = Find(section, "syscalls")) {
    if (!syscalls->is_array()) {
      return Wrong("syscalls", "must be a list");
    }
    for (size_t i = 0; i < syscalls->size(); ++i) {
      auto rule = ParseRule((*syscalls)[i], fmt::format("syscalls[{}]", i));
      if (!rule) {
        return std::unexpected(rule.error());
      }
      parsed.rules.push_back(*std::move(rule));
    }
  }
  return parsed;
}

// Members one by one into what was reserved: an initializer list of Json is copied, and there may
// be thousands of these.
Json ToJson(const ArgCondition& condition) {
  Json::object_t json;
  json.reserve(4);
  json.emplace_back("index", condition.index);
  json.emplace_back("value", condition.value);
  if (condition.compare == Compare::kMaskedEqual) {
    json.emplace_back("valueTwo", condition.value_two);
  }
  json.emplace_back("op", NameOf(kCompares, condition.compare));
  return Json(std::move(json));
}

Json ToJson(std::string_view name, const SeccompAction& action,
            const std::vector<ArgCondition>& conditions) {
  Json::object_t json;
  json.reserve(4);
  json.emplace_back("names", Json::array_t{Json(name)});
  json.emplace_back("action", NameOf(kActions, action.kind));
  if (action.kind == ActionKind::kErrno || action.kind == ActionKind::kTrace) {
    json.emplace_back("errnoRet", action.data);
  }
  if (!conditions.empty()) {
    Json::array_t args;
    args.reserve(conditions.size());
    for (const ArgCondition& condition : conditions) {
      args.push_back(ToJson(condition));
    }
    json.emplace_back("args", std::move(args));
  }
  return Json(std::move(json));
}

}  // namespace oakum::oci
