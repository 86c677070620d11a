#include "agent/server/privileges.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

namespace oakum::agent {
namespace {

// The exit code of a child that has given up its privileges and then does that.
int AfterGivingUp(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    _exit(GiveUpPrivileges() ? body() : 100);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(PrivilegesTest, NoProgramCanBeStartedAnyMore) {
  EXPECT_EQ(AfterGivingUp([] {
              char name[] = "/bin/true";
              char* const arguments[] = {name, nullptr};
              char* const environment[] = {nullptr};
              return execve(name, arguments, environment) == -1 ? errno : 0;
            }),
            EPERM);
}

TEST(PrivilegesTest, WhatItNeverDoesIsRefused) {
  EXPECT_EQ(AfterGivingUp([] {
              // Bad arguments: without a filter the errors would be others.
              for (const long number :
                   {SYS_mount, SYS_init_module, SYS_kexec_load, SYS_keyctl, SYS_mknodat,
                    SYS_open_by_handle_at, SYS_perf_event_open, SYS_unshare, SYS_reboot}) {
                if (syscall(number, -1L, 0L, -1L, 0L, -1L) != -1 || errno != EPERM) {
                  return static_cast<int>(number % 99 + 1);
                }
              }
              return 0;
            }),
            0);
}

TEST(PrivilegesTest, NothingOfItsMemoryIsDumped) {
  EXPECT_EQ(AfterGivingUp([] {
              rlimit core = {1, 1};
              return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
                             getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 &&
                             core.rlim_max == 0
                         ? 0
                         : 1;
            }),
            0);
}

TEST(PrivilegesTest, CanBeGivenUpTwice) {
  EXPECT_EQ(AfterGivingUp([] { return GiveUpPrivileges() ? 0 : 1; }), 0);
}

}  // namespace
}  // namespace oakum::agent
