#include "oci/absent_archs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace oakum::oci {
namespace {

using testing::Contains;
using testing::Not;

// How a child ends that does `body`: its exit status, or the signal's number below 0.
template <typename Body>
int InAChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

#if defined(__x86_64__)
TEST(AbsentArchsTest, X32IsAbsentWhereEachOfItsCallsIsUnknown) {
  if (prctl(PR_GET_SECCOMP) != 0) {
    EXPECT_TRUE(AbsentArchs().empty());
    return;
  }
  const int unknown = InAChild([] {
    int count = 0;
    for (const long number : {SYS_getpid, SYS_getuid, SYS_gettid}) {
      count += syscall(0x40000000 + number) == -1 && errno == ENOSYS ? 1 : 0;
    }
    return count;
  });
  if (unknown == 3) {
    EXPECT_THAT(AbsentArchs(), Contains("SCMP_ARCH_X32"));
  } else {
    EXPECT_EQ(unknown, 0);
    EXPECT_THAT(AbsentArchs(), Not(Contains("SCMP_ARCH_X32")));
  }
}

// One that ends whoever makes a call of x32.
TEST(AbsentArchsTest, AProcessUnderAFilterDoesNotAsk) {
  EXPECT_EQ(InAChild([] {
              sock_filter code[] = {
                  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                  BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
              };
              const sock_fprog program = {4, code};
              if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
                return 1;
              }
              return AbsentArchs().empty() ? 0 : 2;
            }),
            0);
}
#else
TEST(AbsentArchsTest, NoneIsLookedForElsewhere) { EXPECT_TRUE(AbsentArchs().empty()); }
#endif

}  // namespace
}  // namespace oakum::oci
