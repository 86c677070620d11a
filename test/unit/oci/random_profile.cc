#include "test/unit/oci/random_profile.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "oci/arg_condition.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

namespace {

using Random = std::mt19937_64;

constexpr std::array kNames = {"socket", "connect", "sendto",     "sendmsg",        "bind",
                               "listen", "accept4", "socketcall", "io_uring_setup", "setsockopt"};
constexpr std::array kOtherNames = {"read", "mount", "clone", "ptrace", "recv", "no_such_call"};
constexpr std::array<uint64_t, 12> kValues = {0,  1,  2,          3,          9,          10,
                                              16, 40, 0x20000000, 0x7fffffff, 0xffffffff, 17};

// libseccomp's time grows without bound with the depth and the number of a call's rules.
constexpr size_t kMaxBranches = 12;

template <typename List>
auto Pick(Random& random, const List& list) {
  return list[random() % list.size()];
}

uint32_t Below(Random& random, uint32_t limit) { return static_cast<uint32_t>(random() % limit); }

bool Chance(Random& random, uint64_t percent) { return random() % 100 < percent; }

ArgCondition RandomCondition(Random& random, uint32_t index) {
  const auto compare = static_cast<Compare>(random() % 7);
  ArgCondition condition{index, compare, Pick(random, kValues), 0};
  if (Chance(random, 5)) {
    condition.value |= uint64_t{1} << (32 + random() % 32);
  }
  if (compare == Compare::kMaskedEqual) {
    condition.value = Pick(random, std::array<uint64_t, 5>{0x3, 0x20000000, 1, 0x7, 0});
    condition.value_two = Pick(random, kValues) & (Chance(random, 80) ? condition.value : ~0ULL);
  }
  return condition;
}

// libseccomp may loop for ever on other comparisons before a rule's last argument.
ArgCondition EarlyCondition(Random& random, uint32_t index) {
  for (;;) {
    const ArgCondition condition = RandomCondition(random, index);
    if (condition.compare == Compare::kEqual || condition.compare == Compare::kMaskedEqual) {
      return condition;
    }
  }
}

// Conditions that hold exactly where `condition` does not; none when there are no such values.
std::vector<ArgCondition> Opposite(const ArgCondition& condition) {
  std::vector<ArgCondition> conditions;
  for (const RegisterSet& set : ToRegisterSets(condition)) {
    for (const RegisterSet& outside : Complement(set)) {
      ArgRegion region = kAnyArgs;
      region[condition.index] = outside;
      const auto rules = ToRules(region);
      for (const auto& rule : *rules) {
        conditions.insert(conditions.end(), rule.begin(), rule.end());
      }
    }
  }
  return conditions;
}

SeccompAction RandomAction(Random& random) {
  const auto kind = static_cast<ActionKind>(random() % 8);
  if (kind == ActionKind::kNotify) {
    return {ActionKind::kAllow, 0};
  }
  const bool has_data = kind == ActionKind::kErrno || kind == ActionKind::kTrace;
  return {kind, has_data ? static_cast<uint16_t>(random() % 3 + 1) : uint16_t{0}};
}

SeccompAction AllowOften(Random& random) {
  return Chance(random, 60) ? SeccompAction{ActionKind::kAllow, 0} : RandomAction(random);
}

// Rules for one system call: unconditional, disjoint, or whatever comes.
void AddRules(Random& random, const std::string& name, Json& rules) {
  switch (random() % 4) {
    case 0:
      rules.push_back(ToJson(name, AllowOften(random), {}));
      return;
    case 1: {
      // One side of a condition is allowed, the other gets another action.
      const ArgCondition condition = RandomCondition(random, Below(random, 3));
      const SeccompAction one = AllowOften(random);
      const SeccompAction other = RandomAction(random);
      rules.push_back(ToJson(name, one, {condition}));
      for (const ArgCondition& opposite : Opposite(condition)) {
        std::vector<ArgCondition> conditions = {opposite};
        const bool early = opposite.compare == Compare::kMaskedEqual;
        if (early && Chance(random, 30)) {
          conditions.push_back(RandomCondition(random, 3 + Below(random, 3)));
        }
        rules.push_back(ToJson(name, other, conditions));
      }
      return;
    }
    case 2: {
      // Several alternatives with one action.
      const SeccompAction action = AllowOften(random);
      for (uint64_t i = 0; i < 1 + random() % 4; ++i) {
        std::vector<ArgCondition> conditions;
        for (uint32_t index = 0; index < 6; ++index) {
          if (conditions.size() < 2 && Chance(random, 30)) {
            conditions.push_back(conditions.empty() && index < 5 ? EarlyCondition(random, index)
                                                                 : RandomCondition(random, index));
          }
        }
        if (conditions.size() == 1 && Chance(random, 20)) {
          conditions.push_back(RandomCondition(random, conditions[0].index));
        }
        rules.push_back(ToJson(name, action, conditions));
      }
      return;
    }
    default:
      for (uint64_t i = 0; i < 1 + random() % 2; ++i) {
        rules.push_back(
            ToJson(name, AllowOften(random), {RandomCondition(random, Below(random, 2))}));
      }
      return;
  }
}

// A tree of disjoint branches over arguments `index` and beyond.
void Grow(Random& random, uint32_t index, std::vector<ArgCondition> path,
          std::vector<FilterBranch>& branches) {
  if (index >= 3 || Chance(random, 30)) {
    FilterBranch leaf{std::move(path), static_cast<FilterAction>(random() % 3), 0};
    if (leaf.action == FilterAction::kErrno) {
      leaf.errno_value = static_cast<int>(random() % 4 + 1);
    }
    branches.push_back(std::move(leaf));
    return;
  }
  const ArgCondition condition =
      Chance(random, 70) ? EarlyCondition(random, index) : RandomCondition(random, index);
  const uint32_t next = index + 1 + Below(random, 2);
  const bool possible = !ToRegisterSets(condition).empty();
  if (possible) {
    std::vector<ArgCondition> with = path;
    with.push_back(condition);
    Grow(random, next, std::move(with), branches);
    for (const ArgCondition& opposite : Opposite(condition)) {
      std::vector<ArgCondition> without = path;
      without.push_back(opposite);
      Grow(random, next, std::move(without), branches);
    }
  } else {
    Grow(random, next, std::move(path), branches);
  }
}

}  // namespace

Json RandomSection(Random& random) {
  const std::array<SeccompAction, 5> defaults = {
      SeccompAction{ActionKind::kErrno, 1}, SeccompAction{ActionKind::kErrno, 38},
      SeccompAction{ActionKind::kAllow, 0}, SeccompAction{ActionKind::kLog, 0},
      RandomAction(random)};
  // Written as a rule, then its action taken for the default.
  const Json action = ToJson("x", Pick(random, defaults), {});
  Json section = {{"defaultAction", action["action"]}};
  if (action.contains("errnoRet")) {
    section["defaultErrnoRet"] = action["errnoRet"];
  }
  if (Chance(random, 60)) {
    Json archs = Json::array({"SCMP_ARCH_X86_64"});
    for (const char* arch : {"SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"}) {
      if (Chance(random, 50)) {
        archs.push_back(arch);
      }
    }
    section["architectures"] = archs;
  }
  Json rules = Json::array();
  if (Chance(random, 70)) {
    rules.push_back(ToJson("socketcall", AllowOften(random), {}));
  }
  for (const char* name : kNames) {
    if (Chance(random, 60)) {
      AddRules(random, name, rules);
    }
  }
  // With no rule that is unconditional and not the default, libseccomp may build a filter that
  // ignores whole architectures (see seccomp_proof.h): not what is to be tested here.
  Json others = ToJson("x", AllowOften(random), {});
  if (others["action"] == section["defaultAction"]) {
    others["action"] = others["action"] == "SCMP_ACT_TRAP" ? "SCMP_ACT_KILL" : "SCMP_ACT_TRAP";
  }
  others["names"] = kOtherNames;
  rules.push_back(others);
  section["syscalls"] = rules;
  return section;
}

SeccompPlan RandomPlan(Random& random) {
  SeccompPlan plan;
  plan.syscalls.push_back({"socketcall", {{{}, FilterAction::kNotify, 0}}});
  for (const char* name : {"socket", "connect", "sendto", "setsockopt", "io_uring_setup"}) {
    if (Chance(random, 70)) {
      SyscallPlan syscall{name, {}};
      do {
        syscall.branches.clear();
        Grow(random, 0, {}, syscall.branches);
      } while (syscall.branches.size() > kMaxBranches);
      plan.syscalls.push_back(std::move(syscall));
    }
  }
  return plan;
}

}  // namespace oakum::oci
