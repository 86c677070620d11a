#include "oci/seccomp_proof.h"

#include <fmt/format.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "oci/arg_condition.h"
#include "oci/multiplexer.h"
#include "oci/seccomp_program.h"

namespace oakum::oci {

namespace {

// Combinations of arguments that are tried for one system call of one architecture.
constexpr size_t kMaxCombinations = 1000;
// System calls outside of the plan that stand for the rest of the profile.
constexpr size_t kAnchors = 4;
// Beyond the largest system call number of any architecture (alpha excepted, which has no seccomp).
constexpr int kNumberLimit = 600;
constexpr uint32_t kX32Bit = 0x40000000;  // __X32_SYSCALL_BIT

// Values of one 32-bit half of a register at which comparisons with `constant` change.
void AddNear(std::set<uint32_t>& values, uint64_t constant) {
  const auto half = static_cast<uint32_t>(constant);
  values.insert({half, half - 1, half + 1, ~half});
}

// The same numbers each time for the same seed, evenly spread: splitmix64 (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", 2014).
class Sampler {
 public:
  explicit Sampler(uint64_t seed) : state_(seed) {}

  // From 0 up to `size` - 1, which is below 2^32.
  size_t Below(size_t size) {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    mixed ^= mixed >> 31;
    return static_cast<size_t>(((mixed >> 32) * size) >> 32);
  }

 private:
  uint64_t state_;
};

// For each argument the values that some rule of one system call tells apart.
class Values {
 public:
  void Add(const ArgCondition& condition) {
    Half& half = halves_[condition.index];
    half.used = true;
    for (const uint64_t constant :
         {condition.value, condition.value_two, condition.value & condition.value_two,
          condition.value | condition.value_two, condition.value_two ^ condition.value}) {
      AddNear(half.low, constant);
      AddNear(half.high, constant >> 32);
    }
  }

  // Calls `check` with combinations of the values: all of them, or a fixed sample. `narrow`: of
  // registers of 32 bits.
  template <typename Check>
  Expected<void> ForEach(bool narrow, Check check) const {
    std::array<std::vector<uint64_t>, kArgCount> values;
    size_t combinations = 1;
    for (size_t arg = 0; arg < kArgCount; ++arg) {
      values[arg] = halves_[arg].Combine(narrow);
      combinations = std::min(combinations * values[arg].size(), 2 * kMaxCombinations);
    }
    const bool all = combinations <= kMaxCombinations;
    Sampler sample(combinations);
    std::array<size_t, kArgCount> at = {};
    std::array<uint64_t, kArgCount> args = {};
    for (size_t i = 0; i < std::min(combinations, kMaxCombinations); ++i) {
      for (size_t arg = 0; arg < kArgCount; ++arg) {
        const size_t size = values[arg].size();
        args[arg] = values[arg][size == 1 ? 0 : all ? at[arg] : sample.Below(size)];
      }
      if (auto checked = check(args); !checked) {
        return checked;
      }
      for (size_t arg = 0; arg < kArgCount && ++at[arg] == values[arg].size(); ++arg) {
        at[arg] = 0;
      }
    }
    return {};
  }

 private:
  struct Half {
    bool used = false;
    std::set<uint32_t> low = {0};
    std::set<uint32_t> high = {0};

    std::vector<uint64_t> Combine(bool narrow) const {
      if (narrow) {
        return {low.begin(), low.end()};
      }
      std::vector<uint64_t> values;
      for (const uint32_t upper : high) {
        for (const uint32_t lower : low) {
          values.push_back(uint64_t{upper} << 32 | lower);
        }
      }
      return values;
    }
  };
  std::array<Half, kArgCount> halves_;
};

// What the kernel puts beside the arguments; x32 calls come with the audit token of x86-64.
uint32_t NumberBit(const SeccompArch& arch) {
  return arch.libseccomp == SCMP_ARCH_X32 ? kX32Bit : 0;
}
seccomp_data CallOf(const SeccompArch& arch, int number) {
  seccomp_data call = {};
  call.nr = number;
  call.arch = arch.libseccomp == SCMP_ARCH_X32 ? SCMP_ARCH_X86_64 : arch.libseccomp;
  return call;
}

bool Lets(uint32_t action) { return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG; }

using Names = std::unordered_set<std::string_view>;

class Prover {
 public:
  // `names`: what the programs have rules for.
  Prover(const BpfProgram& before, const BpfProgram& after, const SeccompSection& section,
         const CheckedPlan& plan, const SeccompAction& default_after, const Names& names)
      : before_(before), after_(after), names_(names) {
    if (plan.others_errno) {
      unnamed_ = SECCOMP_RET_ERRNO | default_after.data;
    }
    for (const PlannedSyscall& planned : plan.syscalls) {
      Values& values = values_[planned.name];
      for (const ArgCondition& condition : planned.conditions) {
        values.Add(condition);
      }
      std::vector<Branch>& branches = plan_[planned.name];
      for (const PlannedBranch& branch : planned.branches) {
        Branch& narrow = branches.emplace_back(Branch{&branch, {}});
        for (size_t arg = 0; arg < kArgCount; ++arg) {
          if (!branch.region[arg].IsAny()) {
            narrow.conditions.emplace_back(arg, branch.region[arg]);
          }
        }
      }
    }
    for (const SeccompRule& rule : section.rules) {
      for (const std::string& name : rule.names) {
        if (const auto found = values_.find(name); found != values_.end()) {
          std::ranges::for_each(rule.args,
                                [&](const ArgCondition& arg) { found->second.Add(arg); });
        }
      }
    }
  }

  Expected<void> Prove(const SeccompArch& arch) const {
    for (int number = 0; number < kNumberLimit; ++number) {
      const int full = static_cast<int>(static_cast<uint32_t>(number) | NumberBit(arch));
      const std::unique_ptr<char, decltype(&std::free)> name(
          seccomp_syscall_resolve_num_arch(arch.libseccomp, full), &std::free);
      if (name == nullptr) {
        continue;
      }
      const auto planned = plan_.find(std::string_view(name.get()));
      if (planned == plan_.end()) {
        if (auto same = Compare(Begin(arch, full), arch, name.get(), nullptr, {}); !same) {
          return same;
        }
        continue;
      }
      if (!names_.contains(name.get())) {
        continue;
      }
      const Beginning beginning = Begin(arch, full);
      auto proven = values_.at(planned->first).ForEach(IsNarrow(arch), [&](const auto& args) {
        return Compare(beginning, arch, name.get(), &planned->second, args);
      });
      if (!proven) {
        return proven;
      }
    }
    return {};
  }

 private:
  // A compat call has 32-bit registers.
  static bool IsNarrow(const SeccompArch& arch) { return arch.is_32_bit && NumberBit(arch) == 0; }

  // A branch of the plan, and what it asks of arguments.
  struct Branch {
    const PlannedBranch* planned;
    std::vector<std::pair<size_t, RegisterSet>> conditions;
  };

  uint32_t Expect(const SeccompArch& arch, const std::vector<Branch>* branches,
                  const std::array<uint64_t, kArgCount>& args, uint32_t before) const {
    if (!Lets(before)) {
      return before;
    }
    if (branches == nullptr) {
      return unnamed_.value_or(before);
    }
    const auto holds = [&](const std::pair<size_t, RegisterSet>& condition) {
      const uint64_t value = args[condition.first];
      return condition.second.Contains(arch.is_32_bit ? value & UINT32_MAX : value);
    };
    for (const Branch& branch : *branches) {
      if (std::ranges::all_of(branch.conditions, holds)) {
        switch (branch.planned->action) {
          case FilterAction::kAllow:
            return before;
          case FilterAction::kNotify:
            return SECCOMP_RET_USER_NOTIF;
          case FilterAction::kErrno:
            return SECCOMP_RET_ERRNO | branch.planned->errno_value;
        }
      }
    }
    return SECCOMP_RET_KILL_PROCESS;  // not reached: the branches cover everything
  }

  // A call whose arguments are not known yet, and where the programs come to without them.
  struct Beginning {
    seccomp_data call;
    BpfState before;
    BpfState after;
  };
  Beginning Begin(const SeccompArch& arch, int number) const {
    const seccomp_data call = CallOf(arch, number);
    return {call, RunBpfToArguments(before_, call), RunBpfToArguments(after_, call)};
  }

  Expected<void> Compare(const Beginning& beginning, const SeccompArch& arch, const char* name,
                         const std::vector<Branch>* branches,
                         const std::array<uint64_t, kArgCount>& args) const {
    seccomp_data call = beginning.call;
    std::ranges::copy(args, call.args);
    const auto before = RunBpf(before_, call, beginning.before);
    const auto after = RunBpf(after_, call, beginning.after);
    if (!before || !after || *after != Expect(arch, branches, args, *before)) {
      return MakeError(
          EINVAL,
          fmt::format("{}: libseccomp does not build the filter that the rules describe "
                      "({}, arguments {:#x} {:#x} {:#x} {:#x} {:#x} {:#x}: {:#x} became "
                      "{:#x})",
                      name, arch.token, call.args[0], call.args[1], call.args[2], call.args[3],
                      call.args[4], call.args[5], before.value_or(0), after.value_or(0)));
    }
    return {};
  }

  const BpfProgram& before_;
  const BpfProgram& after_;
  const Names& names_;
  std::optional<uint32_t> unnamed_;  // what becomes of an allowed call that the plan does not name
  std::unordered_map<std::string_view, std::vector<Branch>> plan_;
  std::unordered_map<std::string_view, Values> values_;
};

bool EndsAll(const BpfProgram& program, const SeccompArch& arch) {
  for (int number = 0; number < kNumberLimit; ++number) {
    const int full = static_cast<int>(static_cast<uint32_t>(number) | NumberBit(arch));
    if (RunBpf(program, CallOf(arch, full)) != SECCOMP_RET_KILL_THREAD) {
      return false;
    }
  }
  return true;
}

bool IsUnconditional(const SeccompRule& rule) { return std::ranges::all_of(rule.args, IsNoOp); }

// The names of rules in `section` whose arguments count.
void AddConditional(const SeccompSection& section, Names& names) {
  for (const SeccompRule& rule : section.rules) {
    if (!IsUnconditional(rule)) {
      names.insert(rule.names.begin(), rule.names.end());
    }
  }
}

// The system calls of the plan that the programs are about: not those that are simply refused or
// stay, which are most of an allow-list and which libseccomp gets right, but what goes through a
// multiplexer.
Names ToProve(const SeccompSection& before, const CheckedPlan& plan) {
  Names conditional;
  AddConditional(before, conditional);
  Names names;
  for (const PlannedSyscall& planned : plan.syscalls) {
    const PlannedBranch* branch = planned.Unconditional();
    const bool simple = branch != nullptr && branch->action != FilterAction::kNotify &&
                        !conditional.contains(planned.name) &&
                        FindMultiplexer(planned.name) == nullptr &&
                        MultiplexerOf(planned.name) == nullptr;
    if (!simple || !plan.others_errno) {
      names.insert(planned.name);
    }
  }
  return names;
}

// Some system calls that the merge leaves alone, that every architecture has, and that one rule of
// the section decides: without any of these libseccomp may build a filter that ignores an
// architecture.
Names Anchors(const SeccompSection& section, const CheckedPlan& plan, const Names& proven) {
  Names besides = proven;
  for (const PlannedSyscall& planned : plan.syscalls) {
    if (!planned.IsAllowed()) {
      besides.insert(planned.name);
    }
  }
  Names anchors;
  for (const SeccompRule& rule : section.rules) {
    if (rule.action == section.default_action || !IsUnconditional(rule)) {
      continue;
    }
    for (const std::string& name : rule.names) {
      if (anchors.size() >= kAnchors) {
        return anchors;
      }
      const auto has_it = [&](const SeccompArch* arch) {
        return seccomp_syscall_resolve_name_arch(arch->libseccomp, name.c_str()) >= 0;
      };
      if (!besides.contains(name) && std::ranges::all_of(ArchsOf(section), has_it)) {
        anchors.insert(name);
      }
    }
  }
  return anchors;
}

// The section with rules for `names` only.
SeccompSection Only(const SeccompSection& section, const Names& names) {
  SeccompSection only;
  only.default_action = section.default_action;
  only.architectures = section.architectures;
  for (const SeccompRule& rule : section.rules) {
    SeccompRule part{{}, rule.action, rule.args};
    std::ranges::copy_if(rule.names, std::back_inserter(part.names),
                         [&](const std::string& name) { return names.contains(name); });
    if (!part.names.empty()) {
      only.rules.push_back(std::move(part));
    }
  }
  return only;
}

// The section without system calls whose rules libseccomp may loop on for ever: the merge does not
// touch those, and the runtime will meet them too.
SeccompSection WithoutCorrupting(SeccompSection section) {
  std::map<std::string, std::vector<std::vector<ArgCondition>>> lists;
  for (const SeccompRule& rule : section.rules) {
    for (const std::string& name : rule.names) {
      std::ranges::copy(Alternatives(rule), std::back_inserter(lists[name]));
    }
  }
  for (SeccompRule& rule : section.rules) {
    std::erase_if(rule.names,
                  [&](const std::string& name) { return MayCorruptTree(lists.at(name)); });
  }
  return section;
}

}  // namespace

Expected<void> ProveMerge(const SeccompSection& before_merge, const SeccompSection& after_merge,
                          const CheckedPlan& plan, std::span<const SeccompArch* const> absent) {
  Names names = ToProve(before_merge, plan);
  // libseccomp's time grows faster than the filter: a whole profile would take a fifth of a second.
  Names anchors = Anchors(before_merge, plan, names);
  if (anchors.empty() && plan.others_errno) {
    anchors = Anchors(after_merge, plan, names);
  }
  const bool whole = anchors.empty();
  names.insert(anchors.begin(), anchors.end());
  const auto reduce = [&](const SeccompSection& section) {
    return whole ? WithoutCorrupting(section) : Only(section, names);
  };
  const SeccompSection before = reduce(before_merge);
  const SeccompSection after = reduce(after_merge);
  const auto program_before = ToBpf(before);
  if (!program_before) {
    return std::unexpected(program_before.error());
  }
  const auto program_after = ToBpf(after);
  if (!program_after) {
    return std::unexpected(program_after.error());
  }
  const Prover prover(*program_before, *program_after, before, plan, after.default_action, names);
  for (const SeccompArch* arch : ArchsOf(before)) {
    if (auto proven = prover.Prove(*arch); !proven) {
      return proven;
    }
  }
  for (const SeccompArch* arch : absent) {
    if (!EndsAll(*program_after, *arch)) {
      return MakeError(EINVAL, fmt::format("libseccomp builds a filter that takes calls of {}, "
                                           "which was left out",
                                           arch->token));
    }
  }
  return {};
}

}  // namespace oakum::oci
