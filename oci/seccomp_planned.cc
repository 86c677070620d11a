#include "oci/seccomp_planned.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

namespace oakum::oci {

namespace {

constexpr int kMaxErrno = 4095;  // MAX_ERRNO of the kernel: seccomp caps the value there

Expected<PlannedSyscall> CheckSyscall(const SyscallPlan& plan) {
  PlannedSyscall planned{plan.name, {}, {}};
  std::vector<ArgRegion> covered;
  for (const FilterBranch& branch : plan.branches) {
    const bool is_errno = branch.action == FilterAction::kErrno;
    if (is_errno && (branch.errno_value < 1 || branch.errno_value > kMaxErrno)) {
      return MakeError(
          EINVAL, fmt::format("plan: errno {} is not in 1..{}", branch.errno_value, kMaxErrno));
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

Expected<std::vector<PlannedSyscall>> CheckPlan(const SeccompPlan& plan) {
  std::vector<PlannedSyscall> planned;
  std::set<std::string_view> names;
  for (const SyscallPlan& syscall : plan.syscalls) {
    if (!names.insert(syscall.name).second) {
      return MakeError(EINVAL, fmt::format("plan: names {} twice", syscall.name));
    }
    auto checked = CheckSyscall(syscall);
    if (!checked) {
      return std::unexpected(std::move(checked.error()).Context(syscall.name));
    }
    planned.push_back(*std::move(checked));
  }
  return planned;
}

}  // namespace oakum::oci
