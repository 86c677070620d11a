#include "test/unit/oci/never_weaker.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <seccomp.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "oci/multiplexer.h"
#include "oci/seccomp_merge.h"

namespace oakum::oci {

namespace {

constexpr uint32_t kX32Bit = 0x40000000;
constexpr int kHighestNumber = 480;
constexpr int kMaxFailures = 5;

// Calls of each system call that has conditions. What is proven is proven by the release build; the
// sanitizer, under which each call costs many times as much, looks at the memory of the same code.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kCallsWithConditions = 30;
#else
constexpr size_t kCallsWithConditions = 300;
#endif

struct ArchInfo {
  uint32_t libseccomp;
  uint32_t audit;
  uint32_t number_bit;
  bool is_32_bit;
};

constexpr std::array kArchs = std::to_array<ArchInfo>({
    {SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, 0, false},
    {SCMP_ARCH_X86, AUDIT_ARCH_I386, 0, true},
    {SCMP_ARCH_X32, AUDIT_ARCH_X86_64, kX32Bit, true},
    {SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, 0, false},
    {SCMP_ARCH_ARM, AUDIT_ARCH_ARM, 0, true},
    {SCMP_ARCH_PPC64LE, AUDIT_ARCH_PPC64LE, 0, false},
});

// System call number to name, for one architecture.
const std::map<uint32_t, std::string>& Names(const ArchInfo& arch) {
  static std::map<uint32_t, std::map<uint32_t, std::string>> all;
  std::map<uint32_t, std::string>& names = all[arch.libseccomp];
  if (names.empty()) {
    for (int number = 0; number < kHighestNumber + 80; ++number) {
      const int with_bit = number | static_cast<int>(arch.number_bit);
      char* name = seccomp_syscall_resolve_num_arch(arch.libseccomp, with_bit);
      if (name != nullptr) {
        names[static_cast<uint32_t>(with_bit)] = name;
        std::free(name);  // NOLINT: libseccomp allocates it with malloc
      }
    }
  }
  return names;
}

bool Satisfies(const ArgCondition& condition, uint64_t value, bool is_32_bit) {
  uint64_t a = condition.value;
  uint64_t b = condition.value_two;
  if (is_32_bit) {
    value &= UINT32_MAX;
    a &= UINT32_MAX;
    b &= UINT32_MAX;
  }
  switch (condition.compare) {
    case Compare::kNotEqual:
      return value != a;
    case Compare::kLess:
      return value < a;
    case Compare::kLessOrEqual:
      return value <= a;
    case Compare::kEqual:
      return value == a;
    case Compare::kGreaterOrEqual:
      return value >= a;
    case Compare::kGreater:
      return value > a;
    case Compare::kMaskedEqual:
      return (value & a) == (b & a);
  }
  return false;
}

bool IsAllowed(uint32_t action) { return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG; }

bool IsErrno(uint32_t action) { return (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO; }

class Checker {
 public:
  Checker(const Json& section, const SeccompPlan& plan, bool without_x32, std::mt19937_64& random)
      : section_(section), plan_(plan), without_x32_(without_x32), random_(random) {
    for (const SyscallPlan& syscall : plan.syscalls) {
      for (const FilterBranch& branch : syscall.branches) {
        for (const ArgCondition& condition : branch.conditions) {
          AddValues(syscall.name, condition.index, condition.value, condition.value_two);
        }
      }
    }
    if (section.contains("syscalls")) {
      for (const Json& rule : section["syscalls"]) {
        for (const Json& arg : rule.value("args", Json::array())) {
          for (const Json& name : rule["names"]) {
            AddValues(name.get<std::string>(), arg["index"].get<uint32_t>(),
                      arg["value"].get<uint64_t>(), arg.value("valueTwo", uint64_t{0}));
          }
        }
      }
    }
    for (const auto& [name, by_index] : gathered_) {
      for (const auto& [index, values] : by_index) {
        values_[name][index].assign(values.begin(), values.end());
      }
    }
  }

  void Compare(const BpfProgram* before, const BpfProgram& after, CheckResult& result) {
    for (const ArchInfo& arch : kArchs) {
      for (int number = -1; number < kHighestNumber; ++number) {
        const uint32_t with_bit = static_cast<uint32_t>(number) | arch.number_bit;
        const auto& names = Names(arch);
        const auto found = names.find(with_bit);
        const std::string name = found == names.end() ? std::string() : found->second;
        const size_t rounds = values_.contains(name)     ? kCallsWithConditions
                              : Planned(name) != nullptr ? 8
                                                         : 2;
        for (size_t round = 0; round < rounds && failures_ < kMaxFailures; ++round) {
          CompareCall(arch, Call(arch, with_bit, name), name, before, after, result);
        }
      }
    }
  }

 private:
  void AddValues(const std::string& name, uint32_t index, uint64_t value, uint64_t two) {
    if (index >= 6) {
      return;
    }
    std::set<uint64_t>& values = gathered_[name][index];
    for (const uint64_t base : {value, two, value & two, value | two, ~value & two}) {
      for (const uint64_t near : {base, base - 1, base + 1, base | (uint64_t{1} << 32),
                                  base ^ (uint64_t{1} << 31), base ^ 4, ~base}) {
        values.insert(near);
      }
    }
  }

  const SyscallPlan* Planned(const std::string& name) const {
    for (const SyscallPlan& syscall : plan_.syscalls) {
      if (syscall.name == name) {
        return &syscall;
      }
    }
    return nullptr;
  }

  uint64_t Argument(const std::string& name, uint32_t index) {
    const auto by_name = values_.find(name);
    const uint64_t choice = random_() % 16;
    if (by_name != values_.end() && by_name->second.contains(index) && choice < 13) {
      const std::vector<uint64_t>& values = by_name->second.at(index);
      return values[random_() % values.size()];
    }
    switch (choice % 4) {
      case 0:
        return 0;
      case 1:
        return random_() % 64;
      case 2:
        return uint64_t{1} << (random_() % 64);
      default:
        return random_();
    }
  }

  seccomp_data Call(const ArchInfo& arch, uint32_t number, const std::string& name) {
    seccomp_data data = {};
    data.arch = arch.audit;
    data.nr = static_cast<int>(number);
    data.instruction_pointer = random_();
    for (uint32_t i = 0; i < 6; ++i) {
      data.args[i] = Argument(name, i);
      // The kernel hands over what a compat call has in 32-bit registers (x32 uses 64).
      if (arch.is_32_bit && arch.number_bit == 0) {
        data.args[i] &= UINT32_MAX;
      }
    }
    return data;
  }

  uint32_t Expected(const ArchInfo& arch, const seccomp_data& call, const std::string& name,
                    uint32_t before) const {
    const SyscallPlan* plan = IsAllowed(before) ? Planned(name) : nullptr;
    if (plan == nullptr) {
      return IsAllowed(before) && plan_.others_errno
                 ? SECCOMP_RET_ERRNO | static_cast<uint32_t>(*plan_.others_errno)
                 : before;
    }
    std::optional<uint32_t> expected;
    for (const FilterBranch& branch : plan->branches) {
      bool satisfied = true;
      for (const ArgCondition& condition : branch.conditions) {
        satisfied &= Satisfies(condition, call.args[condition.index], arch.is_32_bit);
      }
      if (satisfied) {
        const uint32_t action = branch.action == FilterAction::kAllow ? before
                                : branch.action == FilterAction::kNotify
                                    ? SECCOMP_RET_USER_NOTIF
                                    : SECCOMP_RET_ERRNO | static_cast<uint32_t>(branch.errno_value);
        EXPECT_EQ(expected.value_or(action), action) << "branches of " << name << " disagree";
        expected = action;
      }
    }
    EXPECT_TRUE(expected) << "the plan of " << name << " does not cover all";
    return expected.value_or(0);
  }

  // Whether there is no way to say the errno of the plan (see SeccompPlan::others_errno): that of a
  // multiplexer where it is the default's as well, and so that of all others where the section has
  // it for a multiplexer.
  bool MayHaveAnotherErrno(const std::string& name) const {
    return name == "socketcall" || name == "ipc" || (Planned(name) == nullptr && SaysOthersErrno());
  }

  bool SaysOthersErrno() const {
    for (const Json& rule : (section_.is_object() ? section_.value("syscalls", Json()) : Json())) {
      for (const Json& name : rule["names"]) {
        if ((name == "socketcall" || name == "ipc") &&
            rule.value("errnoRet", EPERM) == plan_.others_errno) {
          return true;
        }
      }
    }
    return false;
  }

  // What there is without any section: every architecture of the kernel, everything allowed.
  static uint32_t Unfiltered(const ArchInfo& arch) {
    return arch.audit == AUDIT_ARCH_X86_64 || arch.audit == AUDIT_ARCH_I386
               ? SECCOMP_RET_ALLOW
               : SECCOMP_RET_KILL_THREAD;
  }

  void CompareCall(const ArchInfo& arch, const seccomp_data& call, const std::string& name,
                   const BpfProgram* before, const BpfProgram& after, CheckResult& result) {
    const std::optional<uint32_t> old_action =
        before == nullptr ? Unfiltered(arch) : RunBpf(*before, call);
    const std::optional<uint32_t> new_action = RunBpf(after, call);
    ASSERT_TRUE(old_action && new_action) << "broken program";
    ++result.calls;
    result.denied += IsAllowed(*old_action) ? 0 : 1;
    result.changed += *old_action != *new_action ? 1 : 0;
    // -1 is no number: a tracer leaves a call out with it (seccomp(2)).
    if (without_x32_ && arch.number_bit == kX32Bit && call.nr != -1) {
      // What runc puts before a filter says it for numbers above the largest (LargestNamed).
      if (*new_action != SECCOMP_RET_KILL_THREAD && *new_action != (SECCOMP_RET_ERRNO | ENOSYS)) {
        ++failures_;
        ADD_FAILURE() << fmt::format("x32 was left out, and {:#x} gets {:#x}",
                                     static_cast<uint32_t>(call.nr), *new_action);
      }
      return;
    }
    const uint32_t expected = Expected(arch, call, name, *old_action);
    const bool other_errno = IsAllowed(*old_action) && MayHaveAnotherErrno(name) &&
                             IsErrno(expected) && IsErrno(*new_action);
    if (*new_action != expected && !other_errno) {
      ++failures_;
      ADD_FAILURE() << fmt::format(
          "{} (arch {:#x} nr {:#x}) args {:#x} {:#x} {:#x} {:#x} {:#x} {:#x}: before {:#x}, after "
          "{:#x}, expected {:#x}",
          name, call.arch, static_cast<uint32_t>(call.nr), call.args[0], call.args[1], call.args[2],
          call.args[3], call.args[4], call.args[5], *old_action, *new_action, expected);
    }
  }

  const Json& section_;
  const SeccompPlan& plan_;
  const bool without_x32_;
  std::mt19937_64& random_;
  // By system call and argument: what is near a value that something is compared with.
  std::map<std::string, std::map<uint32_t, std::set<uint64_t>>> gathered_;
  std::map<std::string, std::map<uint32_t, std::vector<uint64_t>>> values_;
  int failures_ = 0;
};

ArgCondition Arg(uint32_t index, Compare compare, uint64_t value, uint64_t two = 0) {
  return {index, compare, value, two};
}

FilterBranch Branch(std::vector<ArgCondition> conditions, FilterAction action,
                    int errno_value = 0) {
  return {std::move(conditions), action, errno_value};
}

}  // namespace

CheckResult CheckNeverWeaker(const Json& section, const SeccompPlan& plan, RuntimeKind kind,
                             std::mt19937_64& random) {
  CheckResult result;
  ListenerConfig listener = {"/run/oakum/agent.sock", "", {}};
  const bool without_x32 = random() % 2 == 0;
  if (without_x32) {
    listener.absent_archs = {"SCMP_ARCH_X32"};
  }
  const auto merged = MergeSeccomp(section, plan, listener);
  if (!merged) {
    return {MergeOutcome::kRefused, merged.error().ToString(), 0, 0, 0};
  }
  std::optional<BpfProgram> before;
  if (section.is_object() && !section.empty()) {
    auto built = BuildFilter(section, kind);
    if (!built) {
      return {MergeOutcome::kInvalid, built.error().ToString(), 0, 0, 0};
    }
    before = *std::move(built);
  }
  const auto after = BuildFilter(*merged, kind);
  if (!after) {
    ADD_FAILURE() << "the runtime refuses the merged section: " << after.error().ToString()
                  << "\nbefore: " << section.dump() << "\nafter: " << merged->dump();
    return result;
  }
  const bool failed = testing::Test::HasFailure();
  Checker checker(section, plan, without_x32, random);
  checker.Compare(before ? &*before : nullptr, *after, result);
  if (before) {
    for (const ArchInfo& arch : kArchs) {
      EXPECT_GE(LargestNamed(*merged, arch.libseccomp), LargestNamed(section, arch.libseccomp));
    }
  }
  if (!failed && testing::Test::HasFailure()) {
    ADD_FAILURE() << "before: " << section.dump() << "\nafter: " << merged->dump();
  }
  return result;
}

SeccompPlan EnforcingPlan() {
  using enum Compare;
  constexpr uint64_t kFastOpen = 0x20000000;  // MSG_FASTOPEN
  constexpr uint64_t kTypeMask = 0xf;         // SOCK_TYPE_MASK
  const auto notify = FilterAction::kNotify;
  const auto allow = FilterAction::kAllow;
  const auto deny = FilterAction::kErrno;
  SeccompPlan plan;
  for (const char* name : {"connect", "bind", "listen", "accept", "accept4"}) {
    plan.syscalls.push_back({name, {Branch({}, notify)}});
  }
  for (const char* name : {"io_uring_setup", "io_uring_enter", "io_uring_register"}) {
    plan.syscalls.push_back({name, {Branch({}, deny, ENOSYS)}});
  }
  plan.syscalls.push_back(
      {"sendto",
       {Branch({Arg(3, kMaskedEqual, kFastOpen, kFastOpen)}, deny, EOPNOTSUPP),
        Branch({Arg(3, kMaskedEqual, kFastOpen, 0), Arg(4, kEqual, 0)}, allow),
        Branch({Arg(3, kMaskedEqual, kFastOpen, 0), Arg(4, kNotEqual, 0)}, notify)}});
  plan.syscalls.push_back({"sendmsg",
                           {Branch({Arg(2, kMaskedEqual, kFastOpen, kFastOpen)}, deny, EOPNOTSUPP),
                            Branch({Arg(2, kMaskedEqual, kFastOpen, 0)}, notify)}});
  plan.syscalls.push_back({"sendmmsg",
                           {Branch({Arg(3, kMaskedEqual, kFastOpen, kFastOpen)}, deny, EOPNOTSUPP),
                            Branch({Arg(3, kMaskedEqual, kFastOpen, 0)}, notify)}});
  SyscallPlan socket{"socket", {}};
  socket.branches.push_back(Branch({Arg(0, kEqual, 0)}, deny, EAFNOSUPPORT));
  socket.branches.push_back(Branch({Arg(0, kEqual, 1)}, allow));
  for (const uint64_t domain : {2, 10}) {
    for (uint64_t type = 0; type <= kTypeMask; ++type) {
      const ArgCondition is_domain = Arg(0, kEqual, domain);
      const ArgCondition is_type = Arg(1, kMaskedEqual, kTypeMask, type);
      if (type != 1 && type != 2) {
        socket.branches.push_back(Branch({is_domain, is_type}, deny, EPERM));
        continue;
      }
      const uint64_t protocol = type == 1 ? 6 : 17;
      socket.branches.push_back(Branch({is_domain, is_type, Arg(2, kEqual, 0)}, allow));
      socket.branches.push_back(Branch({is_domain, is_type, Arg(2, kEqual, protocol)}, allow));
      for (uint64_t other = 1; other < protocol; ++other) {
        socket.branches.push_back(
            Branch({is_domain, is_type, Arg(2, kEqual, other)}, deny, EPROTONOSUPPORT));
      }
      socket.branches.push_back(Branch({is_domain, is_type, Arg(2, kGreater, protocol)}, notify));
    }
  }
  for (uint64_t domain = 3; domain < 10; ++domain) {
    socket.branches.push_back(Branch({Arg(0, kEqual, domain)}, deny, EAFNOSUPPORT));
  }
  for (uint64_t domain = 11; domain < 16; ++domain) {
    socket.branches.push_back(Branch({Arg(0, kEqual, domain)}, deny, EAFNOSUPPORT));
  }
  socket.branches.push_back(Branch({Arg(0, kEqual, 16), Arg(2, kEqual, 0)}, allow));
  socket.branches.push_back(Branch({Arg(0, kEqual, 16), Arg(2, kGreater, 0)}, deny, EPERM));
  socket.branches.push_back(Branch({Arg(0, kGreater, 16)}, deny, EAFNOSUPPORT));
  plan.syscalls.push_back(std::move(socket));
  // Last: that it ends up first is the merge's business.
  plan.syscalls.push_back({"socketcall", {Branch({}, notify)}});
  return plan;
}

SeccompPlan ClosedPlan(int errno_value, int others_errno, bool refuses_ipc) {
  SeccompPlan plan = EnforcingPlan();
  // Some names that profiles have, and some that none has; the rest of a profile is for
  // others_errno.
  for (const char* name :
       {"read", "write", "close", "mount", "ptrace", "clone", "exit_group", "getsockname"}) {
    plan.syscalls.push_back({name, {Branch({}, FilterAction::kAllow)}});
  }
  const Multiplexer* ipc = FindMultiplexer("ipc");
  for (const std::string_view name : ipc->calls) {
    const bool refused = refuses_ipc && name == "shmget";
    plan.syscalls.push_back({std::string(name),
                             {refused ? Branch({}, FilterAction::kErrno, errno_value)
                                      : Branch({}, FilterAction::kAllow)}});
  }
  plan.syscalls.push_back({"ipc",
                           {refuses_ipc ? Branch({}, FilterAction::kErrno, errno_value)
                                        : Branch({}, FilterAction::kAllow)}});
  for (const char* name : {"openat", "keyctl", "userfaultfd", "kexec_load", "personality"}) {
    plan.syscalls.push_back({name, {Branch({}, FilterAction::kErrno, errno_value)}});
  }
  plan.others_errno = others_errno;
  return plan;
}

}  // namespace oakum::oci
