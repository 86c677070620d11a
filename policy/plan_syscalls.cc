#include "policy/plan_syscalls.h"

#include <asm/ioctls.h>
#include <linux/sched.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "oci/multiplexer.h"
#include "policy/plan_conditions.h"
#include "policy/syscall_list.h"

namespace oakum::policy {

namespace {

using oci::FilterAction;
using oci::SyscallPlan;
using Names = std::unordered_set<std::string_view>;

// clone(2): the flags are argument 0, but on s390 (CONFIG_CLONE_BACKWARDS2) argument 1. The kernel
// takes their lower half. CLONE_NEWTIME is not among them: for clone that bit belongs to the
// signal.
SyscallPlan PlanClone(int errno_value) {
#if defined(__s390__)
  constexpr uint32_t kFlags = 1;
#else
  constexpr uint32_t kFlags = 0;
#endif
  constexpr std::array<uint64_t, 7> kNew = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                            CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                            CLONE_NEWNET};
  uint64_t all = 0;
  SyscallPlan plan{.name = "clone", .branches = {}};
  for (const uint64_t flag : kNew) {
    all |= flag;
    plan.branches.push_back({.conditions = {Masked(kFlags, flag, flag)},
                             .action = FilterAction::kErrno,
                             .errno_value = errno_value});
  }
  plan.branches.push_back({.conditions = {Masked(kFlags, all, 0)}, .action = FilterAction::kAllow});
  return plan;
}

// ioctl(2): argument 1, an unsigned int, is the request. TIOCSTI and TIOCLINUX (TIOCL_PASTESEL) put
// characters into the terminal's input, which whoever started the program then reads
// (ioctl_tty(2), ioctl_console(2)).
SyscallPlan PlanIoctl(int errno_value) {
  constexpr uint32_t kRequest = 1;
  constexpr std::array<uint64_t, 2> kTyping = {TIOCSTI, TIOCLINUX};
  SyscallPlan plan{.name = "ioctl", .branches = {}};
  for (const oci::ArgCondition& other : NoneOfLowHalf(kRequest, kTyping)) {
    plan.branches.push_back({.conditions = {other}, .action = FilterAction::kAllow});
  }
  for (const uint64_t request : kTyping) {
    plan.branches.push_back({.conditions = {Masked(kRequest, kLowHalf, request)},
                             .action = FilterAction::kErrno,
                             .errno_value = errno_value});
  }
  return plan;
}

SyscallPlan PlanListed(std::string_view call, Listing listing, int errno_value) {
  switch (listing) {
    case Listing::kAllowed:
      return Always(call, FilterAction::kAllow);
    case Listing::kByArguments:
      return call == "clone" ? PlanClone(errno_value) : PlanIoctl(errno_value);
    case Listing::kRefused:
      return Always(call, FilterAction::kErrno, errno_value);
    case Listing::kAbsent:
      return Always(call, FilterAction::kErrno, ENOSYS);
  }
  return Always(call, FilterAction::kErrno, errno_value);
}

// The denied names, and the multiplexers that they could be made through.
Names Denied(const SyscallRules& rules) {
  Names denied(rules.deny.begin(), rules.deny.end());
  for (const std::string& call : rules.deny) {
    if (const oci::Multiplexer* multiplexer = oci::MultiplexerOf(call); multiplexer != nullptr) {
      denied.insert(multiplexer->name);
    }
  }
  return denied;
}

}  // namespace

void ApplySyscallRules(const SyscallRules& rules, oci::SeccompPlan& plan) {
  const Names denied = Denied(rules);
  std::erase_if(plan.syscalls,
                [&](const SyscallPlan& guarded) { return denied.contains(guarded.name); });
  for (const std::string_view call : denied) {
    plan.syscalls.push_back(Always(call, FilterAction::kErrno, rules.errno_value));
  }
  if (!rules.strict) {
    return;
  }
  // Names are copied: the plan's own move while it grows.
  std::unordered_set<std::string> decided;
  for (const SyscallPlan& planned : plan.syscalls) {
    decided.insert(planned.name);
  }
  for (const std::string& call : rules.allow) {
    if (decided.insert(call).second) {
      plan.syscalls.push_back(Always(call, FilterAction::kAllow));
    }
  }
  for (const SyscallGroup& group : SyscallList()) {
    for (std::string_view rest = group.calls; !rest.empty();) {
      const std::string_view call = NextCall(rest);
      if (decided.insert(std::string(call)).second) {
        plan.syscalls.push_back(PlanListed(call, group.listing, rules.errno_value));
      }
    }
  }
  plan.others_errno = ENOSYS;
}

}  // namespace oakum::policy
