#include "oci/seccomp_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/seccomp_merger.h"
#include "oci/seccomp_planned.h"
#include "oci/seccomp_proof.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

namespace {

constexpr std::string_view kTsync = "SECCOMP_FILTER_FLAG_TSYNC";
constexpr std::string_view kSpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW";

// syscalls, defaultErrnoRet, flags, listenerPath, listenerMetadata
constexpr size_t kMembersAdded = 5;

// The engine's own entries without the names that `merged` decides. While the default action stays,
// entries that the runtimes skip stay whole: runc still counts their names when it decides which
// system calls are newer than the profile (and then answers ENOSYS).
std::vector<Json> WithoutDecided(Json syscalls, const SeccompSection& section,
                                 const MergedRules& merged, std::set<std::string_view>& removed) {
  const bool same_default = merged.default_action == section.default_action;
  std::vector<Json> kept;
  for (size_t i = 0; i < section.rules.size(); ++i) {
    const SeccompRule& rule = section.rules[i];
    const bool skipped = rule.action == section.default_action;
    Json names = Json::array();
    for (const std::string& name : rule.names) {
      const bool stays = skipped ? same_default : !merged.decided.contains(name);
      if (stays) {
        names.push_back(name);
      } else {
        removed.insert(name);
      }
    }
    if (names.size() == rule.names.size()) {
      kept.push_back(std::move(syscalls[i]));
    } else if (!names.empty()) {
      kept.push_back(std::move(syscalls[i]));
      kept.back()["names"] = std::move(names);
    }
  }
  return kept;
}

// The value of `syscalls`.
Json MergedSyscalls(Json before, const SeccompSection& section, MergedRules& merged) {
  std::set<std::string_view> removed;
  std::vector<Json> syscalls = std::move(merged.first);
  std::ranges::move(WithoutDecided(std::move(before), section, merged, removed),
                    std::back_inserter(syscalls));
  std::ranges::move(merged.others, std::back_inserter(syscalls));
  for (const Json& entry : syscalls) {
    if (const auto names = entry.find("names"); names != entry.end()) {
      for (const Json& name : *names) {
        removed.erase(name.get_ref<const std::string&>());
      }
    }
  }
  if (!removed.empty()) {
    // Nothing but the default is left for these: kept for the same reason as in WithoutDecided.
    Json entry = ToJson("", merged.default_action, {});
    entry["names"] = removed;
    syscalls.push_back(std::move(entry));
  }
  return Json(std::move(syscalls));
}

void SetDefault(Json& section, const SeccompAction& action) {
  const Json rule = ToJson("", action, {});
  section["defaultAction"] = rule["action"];
  section["defaultErrnoRet"] = rule["errnoRet"];
}

void SetFlags(Json& section, const SeccompSection& parsed, const ListenerConfig& listener) {
  std::vector<std::string> flags;
  if (parsed.flags) {
    flags = *parsed.flags;
  } else if (!listener.flags.empty()) {
    // Without any flags the runtimes take this one; with some they take only those.
    flags.emplace_back(kSpecAllow);
  }
  // The kernel answers EINVAL to TSYNC together with a new listener (seccomp(2)), and the
  // container's first process has one thread anyway.
  std::erase(flags, kTsync);
  for (const std::string& flag : listener.flags) {
    if (std::ranges::find(flags, flag) == flags.end()) {
      flags.push_back(flag);
    }
  }
  if (parsed.flags || !flags.empty()) {
    section["flags"] = flags;
  }
}

void SetListener(Json& section, const SeccompSection& parsed, const ListenerConfig& listener) {
  SetFlags(section, parsed, listener);
  section["listenerPath"] = listener.path;
  if (listener.metadata.empty()) {
    section.erase("listenerMetadata");
  } else {
    section["listenerMetadata"] = listener.metadata;
  }
}

bool Notifies(const SeccompSection& section) {
  return section.default_action.kind == ActionKind::kNotify ||
         std::ranges::any_of(section.rules, [](const SeccompRule& rule) {
           return rule.action.kind == ActionKind::kNotify;
         });
}

// Takes architectures that are `absent` out of the section, and says which were there.
std::vector<const SeccompArch*> LeaveOut(const std::vector<std::string>& absent, Json& section) {
  std::vector<const SeccompArch*> left_out;
  const auto found = section.find("architectures");
  if (found == section.end() || !found->is_array()) {
    return left_out;
  }
  Json kept = Json::array();
  for (Json& token : *found) {
    const SeccompArch* arch = FindArch(token.get_ref<const std::string&>());
    const bool is_absent = arch != nullptr && arch != NativeArch() &&
                           std::ranges::find(absent, arch->token) != absent.end();
    if (is_absent) {
      left_out.push_back(arch);
    } else {
      kept.push_back(std::move(token));
    }
  }
  *found = std::move(kept);
  return left_out;
}

// The section with the rules that `merger` makes of it, which is `parsed`; proven.
Expected<Json> Apply(Json section, const SeccompSection& parsed, const SeccompMerger& merger,
                     const CheckedPlan& planned, const ListenerConfig& listener,
                     std::span<const SeccompArch* const> absent, bool by_rest) {
  auto rules = merger.Merge(by_rest);
  if (!rules) {
    return std::unexpected(rules.error());
  }
  const auto syscalls = section.find("syscalls");
  Json before = syscalls != section.end() ? std::exchange(*syscalls, Json()) : Json();
  // ordered_map copies its members where it grows: it grows now, when the long one is not there.
  section.get_ref<Json::object_t&>().reserve(section.size() + kMembersAdded);
  section["syscalls"] = MergedSyscalls(std::move(before), parsed, *rules);
  if (rules->default_action != parsed.default_action) {
    SetDefault(section, rules->default_action);
  }
  SetListener(section, parsed, listener);
  const auto merged = ParseSeccompSection(section);
  if (!merged) {
    return std::unexpected(merged.error());
  }
  if (auto proven = ProveMerge(parsed, *merged, merger.plan(), absent); !proven) {
    return std::unexpected(proven.error());
  }
  // A hook may meet what it wrote itself, so what is too intricate to be read back is refused now
  // rather than then.
  if (auto verified = SeccompMerger(*merged, planned).Verify(); !verified) {
    return std::unexpected(std::move(verified.error()).Context("the merged rules"));
  }
  return section;
}

Expected<Json> Merge(Json section, const SeccompPlan& plan, const ListenerConfig& listener) {
  if (!listener.path.starts_with('/')) {
    return MakeError(EINVAL,
                     fmt::format("listener path \"{}\" is not absolute", Escape(listener.path)));
  }
  auto planned = CheckPlan(plan);
  if (!planned) {
    return std::unexpected(planned.error());
  }
  if (section.is_null() || (section.is_object() && section.empty())) {
    section =
        Json{{"defaultAction", "SCMP_ACT_ALLOW"}, {"architectures", NativeAndCompatibleArchs()}};
  }
  auto parsed = ParseSeccompSection(section);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  std::vector<const SeccompArch*> absent;
  if (parsed->listener_path.empty() && !listener.absent_archs.empty()) {
    absent = LeaveOut(listener.absent_archs, section);
    std::erase_if(parsed->architectures, [&](const std::string& token) {
      return std::ranges::find(absent, FindArch(token)) != absent.end();
    });
  }
  const SeccompMerger merger(*parsed, *planned);
  if (!parsed->listener_path.empty()) {
    if (parsed->listener_path != listener.path) {
      return MakeError(EBUSY, fmt::format("listenerPath: \"{}\" already listens, and a task can "
                                          "have one listener only",
                                          Escape(parsed->listener_path)));
    }
    if (auto verified = merger.Verify(); !verified) {
      return MakeError(EBUSY, fmt::format("listenerPath is already ours, but the rules are of "
                                          "another policy: {}",
                                          verified.error().what));
    }
    SetListener(section, *parsed, listener);
    return section;
  }
  if (Notifies(*parsed)) {
    return MakeError(EINVAL, "SCMP_ACT_NOTIFY without listenerPath");
  }
  // What libseccomp makes of rules that leave it to their order is proven below; there is another
  // form.
  if (auto merged = Apply(section, *parsed, merger, *planned, listener, absent, true); merged) {
    return merged;
  }
  return Apply(std::move(section), *parsed, merger, *planned, listener, absent, false);
}

}  // namespace

Expected<Json> MergeSeccomp(Json section, const SeccompPlan& plan, const ListenerConfig& listener) {
  auto merged = Merge(std::move(section), plan, listener);
  if (!merged) {
    return std::unexpected(std::move(merged.error()).Context("seccomp"));
  }
  return merged;
}

}  // namespace oakum::oci
