// "syscalls": the list itself, and what a policy makes of it in its plan.
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "plan_testing.h"
#include "policy/errno_name.h"
#include "policy/plan.h"
#include "policy/syscall_list.h"
#include "policy_testing.h"

namespace oakum::policy {
namespace {

using oci::FilterAction;
using testing::BranchesOf;
using testing::FindSyscall;
using testing::MustParse;
using testing::OnePolicy;
using testing::Registers;

// set_mempolicy_home_node, the last call of Linux 5.17: what later versions of libseccomp know
// beyond it may be newer than the list.
constexpr int kLastReviewed = 450;

oci::SeccompPlan PlanOf(std::string_view members, std::string_view mode = "enforce") {
  const auto set = MustParse(OnePolicy(members, mode));
  return set == nullptr ? oci::SeccompPlan() : Plan(*set->Find("p"));
}

// What the plan says of the call: nothing, "allow", "notify" or the errno's name.
std::string Says(const oci::SeccompPlan& plan, std::string_view name,
                 const Registers& registers = {}) {
  const oci::SyscallPlan* syscall = FindSyscall(plan, name);
  if (syscall == nullptr) {
    return plan.others_errno ? std::string(ErrnoName(*plan.others_errno)) : "";
  }
  std::set<std::string> said;
  for (const oci::FilterBranch* branch : BranchesOf(*syscall, registers)) {
    switch (branch->action) {
      case FilterAction::kAllow:
        said.insert("allow");
        break;
      case FilterAction::kNotify:
        said.insert("notify");
        break;
      case FilterAction::kErrno:
        said.emplace(ErrnoName(branch->errno_value));
        break;
    }
  }
  EXPECT_EQ(said.size(), 1U) << name;
  return said.empty() ? std::string() : *said.begin();
}

TEST(SyscallListTest, NamesEachCallOnceAndSaysWhy) {
  std::set<std::string_view> seen;
  for (const SyscallGroup& group : SyscallList()) {
    EXPECT_GT(group.why.size(), 40U) << group.name;
    for (std::string_view rest = group.calls; !rest.empty();) {
      const std::string_view call = NextCall(rest);
      EXPECT_TRUE(seen.insert(call).second) << call;
      EXPECT_EQ(call.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), call.npos) << call;
      EXPECT_EQ(FindSyscallGroup(call), &group) << call;
    }
  }
  EXPECT_EQ(FindSyscallGroup("oakum"), nullptr);
}

TEST(SyscallListTest, KnowsEveryCallOfTheArchitecturesOfLinux) {
  for (const uint32_t arch : std::initializer_list<uint32_t>{
           SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, SCMP_ARCH_RISCV64,
           SCMP_ARCH_PPC64LE, SCMP_ARCH_S390X, SCMP_ARCH_S390}) {
    for (int number = 0; number <= kLastReviewed; ++number) {
      const std::unique_ptr<char, decltype(&std::free)> name(
          seccomp_syscall_resolve_num_arch(arch, number), &std::free);
      if (name != nullptr) {
        EXPECT_NE(FindSyscallGroup(name.get()), nullptr) << name.get() << " is in no group";
      }
    }
  }
}

TEST(SyscallListTest, LeavesOutWhatContainersEscapeBy) {
  for (const char* call : {"ptrace",
                           "process_vm_readv",
                           "process_vm_writev",
                           "pidfd_getfd",
                           "kcmp",
                           "bpf",
                           "perf_event_open",
                           "userfaultfd",
                           "mount",
                           "umount2",
                           "pivot_root",
                           "move_mount",
                           "fsopen",
                           "setns",
                           "unshare",
                           "keyctl",
                           "add_key",
                           "request_key",
                           "kexec_load",
                           "kexec_file_load",
                           "init_module",
                           "finit_module",
                           "delete_module",
                           "open_by_handle_at",
                           "io_uring_setup",
                           "io_uring_enter",
                           "io_uring_register",
                           "clone3",
                           "syscall",
                           "multiplexer",
                           "reboot",
                           "iopl"}) {
    const SyscallGroup* group = FindSyscallGroup(call);
    ASSERT_NE(group, nullptr) << call;
    EXPECT_TRUE(group->listing == Listing::kRefused || group->listing == Listing::kAbsent) << call;
  }
}

TEST(SyscallPlanTest, StrictSaysWhatTheListSays) {
  const oci::SeccompPlan plan = PlanOf(R"("syscalls": {"base": "strict", "errno": "EACCES"})");
  const oci::SeccompPlan guard = PlanOf("");
  EXPECT_EQ(plan.others_errno, ENOSYS);
  EXPECT_FALSE(guard.others_errno);
  for (const SyscallGroup& group : SyscallList()) {
    for (std::string_view rest = group.calls; !rest.empty();) {
      const std::string_view call = NextCall(rest);
      const oci::SyscallPlan* guarded = FindSyscall(guard, call);
      if (guarded != nullptr) {
        EXPECT_EQ(*FindSyscall(plan, call), *guarded) << "the guard decides " << call;
      } else if (group.listing != Listing::kByArguments) {
        EXPECT_EQ(Says(plan, call), group.listing == Listing::kAllowed   ? "allow"
                                    : group.listing == Listing::kRefused ? "EACCES"
                                                                         : "ENOSYS")
            << call;
      }
    }
  }
  EXPECT_EQ(Says(PlanOf(R"("syscalls": {"base": "strict"})"), "ptrace"), "EPERM");
  EXPECT_EQ(Says(PlanOf(R"("syscalls": {"base": "strict"})", "kill"), "ptrace"), "EPERM");
}

TEST(SyscallPlanTest, CloneMakesThreadsAndProcessesButNoNamespaces) {
  const oci::SeccompPlan plan = PlanOf(R"("syscalls": {"base": "strict"})");
  constexpr uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                               CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                               CLONE_CHILD_CLEARTID;
  constexpr uint64_t kUpper = uint64_t{1} << 40;
  for (const uint64_t flags : {uint64_t{17}, kThread, uint64_t{CLONE_VM | CLONE_VFORK | 17},
                               uint64_t{CLONE_PIDFD | CLONE_INTO_CGROUP}, kThread | kUpper}) {
    EXPECT_EQ(Says(plan, "clone", {flags}), "allow") << flags;
  }
  for (const uint64_t flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                              CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET}) {
    for (const uint64_t with : {uint64_t{0}, uint64_t{17}, kThread, kUpper}) {
      EXPECT_EQ(Says(plan, "clone", {flag | with}), "EPERM") << flag << " " << with;
    }
  }
}

TEST(SyscallPlanTest, IoctlTypesIntoNoTerminalWhateverIsInTheUpperHalf) {
  const oci::SeccompPlan plan = PlanOf(R"("syscalls": {"base": "strict"})");
  for (const uint64_t upper : {uint64_t{0}, uint64_t{1} << 32, uint64_t{0xffffffff} << 32}) {
    EXPECT_EQ(Says(plan, "ioctl", {0, upper | TIOCSTI}), "EPERM");
    EXPECT_EQ(Says(plan, "ioctl", {0, upper | TIOCLINUX}), "EPERM");
    for (const uint64_t request :
         {uint64_t{TCGETS}, uint64_t{FIONBIO}, uint64_t{TIOCSTI - 1}, uint64_t{TIOCSTI + 1},
          uint64_t{TIOCLINUX + 1}, uint64_t{0}, uint64_t{0xffffffff}}) {
      EXPECT_EQ(Says(plan, "ioctl", {0, upper | request}), "allow") << request;
    }
  }
}

TEST(SyscallPlanTest, AllowExtendsTheListAndDenyNarrowsAnyBase) {
  const oci::SeccompPlan strict = PlanOf(
      R"("syscalls": {"base": "strict", "allow": ["ptrace", "clone", "clone3", "connect"],
                      "deny": ["mkdir", "sendto", "userfaultfd"], "errno": 95})");
  for (const char* call : {"ptrace", "clone", "clone3"}) {
    EXPECT_EQ(Says(strict, call, {CLONE_NEWUSER}), "allow") << call;
  }
  EXPECT_EQ(Says(strict, "connect"), "notify") << "allowing does not open what is guarded";
  for (const char* call : {"mkdir", "sendto", "userfaultfd", "setns"}) {
    EXPECT_EQ(Says(strict, call), "EOPNOTSUPP") << call;
  }
  const oci::SeccompPlan keep = PlanOf(R"("syscalls": {"deny": ["ptrace", "io_uring_setup"]})");
  EXPECT_EQ(Says(keep, "ptrace"), "EPERM");
  EXPECT_EQ(Says(keep, "io_uring_setup"), "EPERM");
  EXPECT_EQ(Says(keep, "io_uring_enter"), "ENOSYS");
  EXPECT_EQ(Says(keep, "mount"), "");
  EXPECT_FALSE(keep.others_errno);
  EXPECT_EQ(PlanOf(R"("syscalls": {"allow": ["ptrace"]})"), PlanOf(""));
}

TEST(SyscallPlanTest, DenyingACallDeniesItsMultiplexer) {
  for (const char* base : {"keep", "strict"}) {
    const std::string start = std::string(R"("syscalls": {"base": ")") + base + "\", ";
    const oci::SeccompPlan bind = PlanOf(start + R"("deny": ["bind"]})");
    EXPECT_EQ(Says(bind, "socketcall"), "EPERM");
    EXPECT_NE(Says(bind, "ipc"), "EPERM");
    const oci::SeccompPlan shmget = PlanOf(start + R"("deny": ["shmget"]})");
    EXPECT_EQ(Says(shmget, "ipc"), "EPERM");
    EXPECT_EQ(Says(shmget, "socketcall"), "notify");
  }
}

TEST(SyscallPlanTest, AuditRefusesNothing) {
  EXPECT_EQ(PlanOf(R"("syscalls": {"base": "strict", "deny": ["mkdir"]})", "audit"),
            PlanOf("", "audit"));
}

TEST(ErrnoNameTest, KnowsNamesAndNumbers) {
  EXPECT_EQ(ErrnoOf("EPERM"), EPERM);
  EXPECT_EQ(ErrnoOf("EWOULDBLOCK"), EAGAIN);
  EXPECT_EQ(ErrnoOf("ENOTSUP"), EOPNOTSUPP);
  EXPECT_EQ(ErrnoOf("EOPNOTSUPP"), EOPNOTSUPP);
  EXPECT_EQ(ErrnoOf("eperm"), std::nullopt);
  EXPECT_EQ(ErrnoOf(""), std::nullopt);
  EXPECT_EQ(ErrnoName(ENOSYS), "ENOSYS");
  EXPECT_EQ(ErrnoName(0), "");
  EXPECT_EQ(ErrnoName(4000), "");
}

}  // namespace
}  // namespace oakum::policy
