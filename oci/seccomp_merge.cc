#include "oci/seccomp_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/arg_condition.h"
#include "oci/seccomp_effect.h"
#include "oci/seccomp_planned.h"
#include "oci/seccomp_proof.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

namespace {

constexpr std::string_view kSocketcall = "socketcall";
constexpr std::string_view kTsync = "SECCOMP_FILTER_FLAG_TSYNC";
constexpr std::string_view kSpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW";

// The calls that socketcall(2) multiplexes. For an architecture that has it, libseccomp makes of
// each rule for one of them a second one for socketcall, whose argument 0 is the call's number and
// whose other arguments are compared although they mean nothing there.
constexpr std::array kSocketCalls = std::to_array<std::string_view>(
    {"socket",     "bind",    "connect", "listen",  "accept",   "getsockname", "getpeername",
     "socketpair", "send",    "recv",    "sendto",  "recvfrom", "shutdown",    "setsockopt",
     "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg"});

bool IsSocketCall(std::string_view name) {
  return std::ranges::find(kSocketCalls, name) != kSocketCalls.end();
}

struct Piece {
  ArgRegion region;
  SeccompAction action;
};

class Merger {
 public:
  Merger(const SeccompSection& section, const std::vector<PlannedSyscall>& plan)
      : section_(section), plan_(plan) {
    std::vector<std::string> tokens = section.architectures;
    if (const SeccompArch* native = NativeArch(); native != nullptr) {
      tokens.emplace_back(native->token);  // libseccomp's filters always have it
    }
    for (const std::string& token : tokens) {
      const SeccompArch* arch = FindArch(token);  // never null: the section was checked
      has_32_bit_ |= arch->is_32_bit;
      has_socketcall_ |= arch->has_socketcall;
    }
  }

  // The rules that must stand first in `syscalls`, and those that may stand anywhere.
  struct Rules {
    std::vector<Json> first;
    std::vector<Json> others;
  };
  Expected<Rules> Merge() const {
    Rules rules;
    for (const PlannedSyscall& planned : plan_) {
      auto merged = planned.name == kSocketcall && has_socketcall_ ? MergeSocketcall(planned)
                                                                   : MergeSyscall(planned);
      if (!merged) {
        return std::unexpected(std::move(merged.error()).Context(planned.name));
      }
      auto& list = planned.name == kSocketcall ? rules.first : rules.others;
      std::ranges::move(*merged, std::back_inserter(list));
    }
    if (auto checked = RequireSocketcall(); !checked) {
      return std::unexpected(checked.error());
    }
    return rules;
  }

  // Whether the section already does what the plan asks, with the agent notified of nothing else.
  Expected<void> Verify() const {
    std::set<std::string_view> names;
    for (const PlannedSyscall& planned : plan_) {
      names.insert(planned.name);
      if (auto verified = VerifySyscall(planned); !verified) {
        return std::unexpected(std::move(verified.error()).Context(planned.name));
      }
    }
    for (const SeccompRule& rule : section_.rules) {
      for (const std::string& name : rule.names) {
        if (rule.action.kind == ActionKind::kNotify && !names.contains(name)) {
          return MakeError(EINVAL, fmt::format("{}: is notified, which the policy does not ask for",
                                               Escape(name)));
        }
      }
    }
    return RequireSocketcall();
  }

 private:
  Expected<std::vector<Json>> MergeSyscall(const PlannedSyscall& planned) const {
    const auto effect = EffectOf(section_, planned.name, has_32_bit_);
    if (!effect) {
      return std::unexpected(effect.error());
    }
    std::vector<Rule> rules;
    std::vector<Piece> pieces;
    for (const EffectiveRule& rule : effect->rules) {
      if (!rule.action.Lets()) {
        rules.push_back({rule.action, rule.conditions});
      } else if (auto cut = Cut(rule.region, rule.action, planned, pieces); !cut) {
        return std::unexpected(cut.error());
      }
    }
    if (auto cut = CutRest(*effect, planned, pieces); !cut) {
      return std::unexpected(cut.error());
    }
    for (const Piece& piece : pieces) {
      auto lists = ToRules(piece.region);
      if (!lists) {
        return std::unexpected(lists.error());
      }
      for (std::vector<ArgCondition>& conditions : *lists) {
        rules.push_back({piece.action, std::move(conditions)});
      }
    }
    return Emit(planned.name, std::move(rules));
  }

  // What each branch of the plan makes of the calls in `region`, which `allowed` lets through.
  Expected<void> Cut(const ArgRegion& region, const SeccompAction& allowed,
                     const PlannedSyscall& planned, std::vector<Piece>& pieces) const {
    for (const PlannedBranch& branch : planned.branches) {
      const SeccompAction action = ActionOf(branch, allowed);
      if (action == section_.default_action) {
        continue;  // the runtimes skip such rules, and nothing else takes these calls
      }
      const auto cut = Intersect(region, branch.region);
      if (!cut) {
        return std::unexpected(cut.error());
      }
      AddPieces(*cut, action, pieces);
    }
    return {};
  }

  // The same for the calls that the engine's default lets through.
  Expected<void> CutRest(const Effect& effect, const PlannedSyscall& planned,
                         std::vector<Piece>& pieces) const {
    if (!section_.default_action.Lets()) {
      return {};
    }
    for (const PlannedBranch& branch : planned.branches) {
      const SeccompAction action = ActionOf(branch, section_.default_action);
      if (action == section_.default_action) {
        continue;
      }
      const auto rest = Undecided(effect, branch.region);
      if (!rest) {
        return std::unexpected(rest.error());
      }
      AddPieces(*rest, action, pieces);
    }
    return {};
  }

  // The engine's rules may overlap each other, and so may branches with the same action: what is
  // covered already is not said again.
  static void AddPieces(const std::vector<ArgRegion>& regions, const SeccompAction& action,
                        std::vector<Piece>& pieces) {
    for (const ArgRegion& region : regions) {
      const auto covers = [&](const Piece& other) {
        return other.action == action && IsSubset(region, other.region);
      };
      if (std::ranges::any_of(pieces, covers)) {
        continue;
      }
      std::erase_if(pieces, [&](const Piece& other) {
        return other.action == action && IsSubset(other.region, region);
      });
      pieces.push_back({region, action});
    }
  }

  struct Rule {
    SeccompAction action;
    std::vector<ArgCondition> conditions;
  };

  Expected<std::vector<Json>> Emit(std::string_view name, std::vector<Rule> rules) const {
    std::vector<std::vector<ArgCondition>> lists;
    lists.reserve(rules.size());
    for (const Rule& rule : rules) {
      lists.push_back(rule.conditions);
    }
    const bool split = MayCorruptTree(lists);
    std::vector<Json> entries;
    for (Rule& rule : rules) {
      const auto parts = split ? ToTreeRules(std::move(rule.conditions))
                               : Expected<decltype(lists)>({std::move(rule.conditions)});
      if (!parts) {
        return std::unexpected(parts.error());
      }
      for (const std::vector<ArgCondition>& conditions : *parts) {
        if (has_32_bit_ && !std::ranges::all_of(conditions, FitsIn32Bits)) {
          return MakeError(EINVAL,
                           "the rules would compare more than 32 bits, which a 32-bit architecture "
                           "in `architectures` reads differently");
        }
        entries.push_back(ToJson(name, rule.action, conditions));
      }
      if (entries.size() > kMaxRegions) {
        return MakeError(E2BIG, fmt::format("needs more than {} rules", kMaxRegions));
      }
    }
    return entries;
  }

  // Whether some rule of the section becomes one for socketcall, or is one with conditions.
  bool ReachesSocketcall() const {
    return std::ranges::any_of(section_.rules, [&](const SeccompRule& rule) {
      return rule.action != section_.default_action &&
             std::ranges::any_of(rule.names, [](const std::string& name) {
               return IsSocketCall(name) || name == kSocketcall;
             });
    });
  }

  // One rule without conditions, to stand first: libseccomp then drops whatever it would derive
  // for socketcall from the rules of socket, sendto and so on, which could let calls through
  // whatever their arguments.
  Expected<std::vector<Json>> MergeSocketcall(const PlannedSyscall& planned) const {
    const PlannedBranch* branch = planned.Unconditional();
    if (branch == nullptr) {
      return MakeError(EINVAL,
                       "plan: its arguments cannot be told apart on architectures that "
                       "have it");
    }
    const auto effect = EffectOf(section_, kSocketcall, has_32_bit_);
    if (!effect) {
      return std::unexpected(effect.error());
    }
    SeccompAction before = section_.default_action;
    if (effect->IsUnconditional()) {
      before = effect->rules[0].action;
    } else if (ReachesSocketcall()) {
      return MakeError(EINVAL,
                       "the profile names socket calls and an architecture that makes them through "
                       "socketcall, but does not decide socketcall itself: name it in `syscalls` "
                       "without conditions, or remove the architecture");
    }
    const SeccompAction after = before.Lets() ? ActionOf(*branch, before) : before;
    std::vector<Json> rules;
    if (after != section_.default_action) {
      rules.push_back(ToJson(kSocketcall, after, {}));
    } else if (after.Lets()) {
      return MakeError(EINVAL,
                       "plan: lets it through, so that libseccomp would derive its rules "
                       "from those of other calls");
    }
    return rules;
  }

  // A plan for socket calls that says nothing of socketcall would leave that way open.
  Expected<void> RequireSocketcall() const {
    if (!has_socketcall_) {
      return {};
    }
    const auto named = [&](auto predicate) {
      return std::ranges::any_of(
          plan_, [&](const PlannedSyscall& planned) { return predicate(planned.name); });
    };
    if (named(IsSocketCall) && !named([](std::string_view name) { return name == kSocketcall; })) {
      return MakeError(EINVAL, "plan: names socket calls but not socketcall");
    }
    return {};
  }

  Expected<void> VerifySyscall(const PlannedSyscall& planned) const {
    const auto effect = EffectOf(section_, planned.name, has_32_bit_);
    if (!effect) {
      return std::unexpected(effect.error());
    }
    if (planned.name == kSocketcall && has_socketcall_ && !effect->IsUnconditional() &&
        ReachesSocketcall()) {
      return MakeError(EINVAL, "is not decided without conditions");
    }
    const auto agree = [](const PlannedBranch& branch, const SeccompAction& action) {
      return action.kind == ActionKind::kNotify ? branch.action == FilterAction::kNotify
             : action.Lets()                    ? branch.action == FilterAction::kAllow
                                                : true;
    };
    for (const PlannedBranch& branch : planned.branches) {
      for (const EffectiveRule& rule : effect->rules) {
        if (!agree(branch, rule.action) && Overlap(branch.region, rule.region)) {
          return MakeError(EINVAL, "is not decided as the policy asks");
        }
      }
      if (agree(branch, section_.default_action)) {
        continue;
      }
      const auto rest = Undecided(*effect, branch.region);
      if (!rest) {
        return std::unexpected(rest.error());
      }
      if (!rest->empty()) {
        return MakeError(EINVAL, "is not decided as the policy asks");
      }
    }
    return {};
  }

  const SeccompSection& section_;
  const std::vector<PlannedSyscall>& plan_;
  bool has_32_bit_ = false;
  bool has_socketcall_ = false;
};

// The engine's own entries without the planned names. Entries that the runtimes skip stay whole:
// runc still counts their names when it decides which system calls are newer than the profile
// (and then answers ENOSYS).
std::vector<Json> WithoutPlanned(const Json& syscalls, const SeccompSection& section,
                                 const std::set<std::string_view>& planned,
                                 std::set<std::string>& removed) {
  std::vector<Json> kept;
  for (size_t i = 0; i < section.rules.size(); ++i) {
    const SeccompRule& rule = section.rules[i];
    Json names = Json::array();
    for (const std::string& name : rule.names) {
      if (rule.action == section.default_action || !planned.contains(name)) {
        names.push_back(name);
      } else {
        removed.insert(name);
      }
    }
    if (names.size() == rule.names.size()) {
      kept.push_back(syscalls[i]);
    } else if (!names.empty()) {
      kept.push_back(syscalls[i]);
      kept.back()["names"] = std::move(names);
    }
  }
  return kept;
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

Expected<Json> Merge(Json section, const SeccompPlan& plan, const ListenerConfig& listener) {
  if (!listener.path.starts_with('/')) {
    return MakeError(EINVAL,
                     fmt::format("listener path \"{}\" is not absolute", Escape(listener.path)));
  }
  const auto planned = CheckPlan(plan);
  if (!planned) {
    return std::unexpected(planned.error());
  }
  if (section.is_null() || (section.is_object() && section.empty())) {
    section =
        Json{{"defaultAction", "SCMP_ACT_ALLOW"}, {"architectures", NativeAndCompatibleArchs()}};
  }
  const auto parsed = ParseSeccompSection(section);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  const Merger merger(*parsed, *planned);
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
  auto rules = merger.Merge();
  if (!rules) {
    return std::unexpected(rules.error());
  }
  std::set<std::string_view> names;
  for (const PlannedSyscall& syscall : *planned) {
    names.insert(syscall.name);
  }
  std::set<std::string> removed;
  const Json before = section.contains("syscalls") ? section["syscalls"] : Json();
  std::vector<Json> syscalls = std::move(rules->first);
  std::ranges::move(WithoutPlanned(before, *parsed, names, removed), std::back_inserter(syscalls));
  std::ranges::move(rules->others, std::back_inserter(syscalls));
  for (const Json& entry : syscalls) {
    for (const Json& name : entry.value("names", Json::array())) {
      removed.erase(name.get<std::string>());
    }
  }
  for (const std::string& name : removed) {
    // Nothing but the default is left for it: kept for the same reason as in WithoutPlanned.
    syscalls.push_back(ToJson(name, parsed->default_action, {}));
  }
  section["syscalls"] = std::move(syscalls);
  SetListener(section, *parsed, listener);
  const auto merged = ParseSeccompSection(section);
  if (!merged) {
    return std::unexpected(merged.error());
  }
  if (auto proven = ProveMerge(*parsed, *merged, *planned); !proven) {
    return std::unexpected(proven.error());
  }
  // A hook may meet what it wrote itself, so what is too intricate to be read back is refused now
  // rather than then.
  if (auto verified = Merger(*merged, *planned).Verify(); !verified) {
    return std::unexpected(std::move(verified.error()).Context("the merged rules"));
  }
  return section;
}

}  // namespace

Expected<Json> MergeSeccomp(const Json& section, const SeccompPlan& plan,
                            const ListenerConfig& listener) {
  auto merged = Merge(section, plan, listener);
  if (!merged) {
    return std::unexpected(std::move(merged.error()).Context("seccomp"));
  }
  return merged;
}

}  // namespace oakum::oci
