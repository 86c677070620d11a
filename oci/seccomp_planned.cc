#include "oci/seccomp_planned.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace oakum::oci {

namespace {

constexpr int kMaxErrno = 4095;  // MAX_ERRNO of the kernel: seccomp caps the value there

Expected<void> CheckErrno(int value) {
  if (value < 1 || value > kMaxErrno) {
    return MakeError(EINVAL, fmt::format("plan: errno {} is not in 1..{}", value, kMaxErrno));
  }
  return {};
}

Expected<PlannedSyscall> CheckSyscall(const SyscallPlan& plan) {
  PlannedSyscall planned{plan.name, {}, {}};
  std::vector<ArgRegion> covered;
  for (const FilterBranch& branch : plan.branches) {
    const bool is_errno = branch.action == FilterAction::kErrno;
    if (is_errno) {
      if (auto checked = CheckErrno(branch.errno_value); !checked) {
        return std::unexpected(checked.error());
      }
    }
    if (branch.action == FilterAction::kNotify && plan.name == "write") {
      return MakeError(EINVAL, "plan: runc refuses to notify write");
    }
    const auto regions = ToRegions(branch.conditions);
    if (!regions) {
      return MakeError(EINVAL, fmt::format("plan: {}", regions.error().what));
    }
    planned.conditions.insert(planned.conditions.end(), branch.conditions.begin(),
                              branch.conditions.end());
    for (const ArgRegion& region : *regions) {
      const PlannedBranch added = {region, branch.action,
                                   static_cast<uint16_t>(is_errno ? branch.errno_value : 0)};
      const auto conflicts = [&](const PlannedBranch& other) {
        return (other.action != added.action || other.errno_value != added.errno_value) &&
               Overlap(region, other.region);
      };
      if (std::ranges::any_of(planned.branches, conflicts)) {
        return MakeError(EINVAL, "plan: branches with different actions overlap");
      }
      covered.push_back(region);
      planned.branches.push_back(added);
    }
  }
  if (planned.Unconditional() != nullptr) {
    return planned;
  }
  const auto rest = Subtract(kAnyArgs, covered);
  if (!rest) {
    return std::unexpected(rest.error());
  }
  if (!rest->empty()) {
    return MakeError(EINVAL, "plan: its branches leave some arguments undecided");
  }
  return planned;
}

}  // namespace

SeccompAction ActionOf(const PlannedBranch& branch, const SeccompAction& allowed) {
  switch (branch.action) {
    case FilterAction::kAllow:
      return allowed;
    case FilterAction::kNotify:
      return {ActionKind::kNotify, 0};
    case FilterAction::kErrno:
      return {ActionKind::kErrno, branch.errno_value};
  }
  return {ActionKind::kKillProcess, 0};
}

Expected<CheckedPlan> CheckPlan(const SeccompPlan& plan) {
  CheckedPlan checked;
  if (plan.others_errno) {
    if (auto in_range = CheckErrno(*plan.others_errno); !in_range) {
      return std::unexpected(in_range.error());
    }
    checked.others_errno = static_cast<uint16_t>(*plan.others_errno);
  }
  std::unordered_set<std::string_view> names;
  for (const SyscallPlan& syscall : plan.syscalls) {
    if (!names.insert(syscall.name).second) {
      return MakeError(EINVAL, fmt::format("plan: names {} twice", syscall.name));
    }
    auto planned = CheckSyscall(syscall);
    if (!planned) {
      return std::unexpected(std::move(planned.error()).Context(syscall.name));
    }
    checked.syscalls.push_back(*std::move(planned));
  }
  return checked;
}

}  // namespace oakum::oci
