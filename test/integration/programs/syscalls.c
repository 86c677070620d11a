// syscalls NAME...: makes each call once, with arguments that do no harm, and prints one JSON
// object a line: {"op": NAME, "ret": ..., "errno": "EPERM"} (errno is empty where it worked).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static long Reap(long child) {
  if (child == 0) {
    _exit(0);
  }
  if (child > 0) {
    waitpid((pid_t)child, NULL, 0);
  }
  return child;
}

static long CloneNewUser(void) {
  return Reap(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0L, 0L, 0L, 0L));
}

static long ClonePlain(void) { return Reap(syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L)); }

static long Clone3(void) {
  struct clone_args arguments = {.exit_signal = SIGCHLD};
  return Reap(syscall(SYS_clone3, &arguments, sizeof arguments));
}

static long ProcessVmReadv(void) {
  static char from[8] = "secret";
  static char to[8];
  const struct iovec local = {to, sizeof to};
  const struct iovec remote = {from, sizeof from};
  return syscall(SYS_process_vm_readv, (long)getpid(), &local, 1L, &remote, 1L, 0L);
}

static long Unshare(void) { return syscall(SYS_unshare, 0L); }
static long Ptrace(void) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const long result = syscall(SYS_ptrace, (long)PTRACE_SEIZE, (long)child, 0L, 0L);
  const int error = errno;
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  errno = error;
  return result;
}
static long Userfaultfd(void) { return syscall(SYS_userfaultfd, 1L); }  // UFFD_USER_MODE_ONLY
static long Setns(void) { return syscall(SYS_setns, open("/proc/self/ns/ipc", O_RDONLY), 0L); }
static long Keyctl(void) {
  return syscall(SYS_keyctl, (long)KEYCTL_GET_KEYRING_ID, (long)KEY_SPEC_PROCESS_KEYRING, 1L);
}
// ENODEV where the call is made at all: it must not change the machine when there is no container.
static long Mount(void) { return syscall(SYS_mount, "none", "/proc/self", "oakum-none", 0L, 0L); }
static long PidfdGetfd(void) {
  return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, getpid(), 0L), 0L, 0L);
}
static long MkdirAt(void) {
  static char name[64];
  snprintf(name, sizeof name, "/tmp/oakum-made-%d", (int)getpid());
  const long result = syscall(SYS_mkdirat, AT_FDCWD, name, 0700L);
  if (result == 0) {
    rmdir(name);
  }
  return result;
}
static long Newer(void) { return syscall(2000L); }
// Nobody's terminal: EBADF where the call is made at all.
static long Tiocsti(void) { return syscall(SYS_ioctl, -1L, (long)TIOCSTI, "x"); }
static long TiocstiHigh(void) { return syscall(SYS_ioctl, -1L, 0x100000000L | TIOCSTI, "x"); }
static long Tcgets(void) { return syscall(SYS_ioctl, -1L, (long)TCGETS, 0L); }

#ifdef __x86_64__
// The same by the 32-bit entry: numbers of arch/x86/entry/syscalls/syscall_32.tbl.
static long Int80(long number, long a, long b) {
  long result = number;
  __asm__ volatile("int $0x80"
                   : "+a"(result)
                   : "b"(a), "c"(b), "d"(0L), "S"(0L), "D"(0L)
                   : "memory", "r8", "r9", "r10", "r11");
  if (result < 0 && result > -4096) {
    errno = (int)-result;
    return -1;
  }
  return result;
}
static long Unshare32(void) { return Int80(310, 0, 0); }
static long Getpid32(void) { return Int80(20, 0, 0); }
#else
static long Unshare32(void) { return Unshare(); }
static long Getpid32(void) { return getpid(); }
#endif

static const struct {
  const char* name;
  long (*make)(void);
} kCalls[] = {
    {"clone", ClonePlain},
    {"clone_newuser", CloneNewUser},
    {"clone3", Clone3},
    {"getpid32", Getpid32},
    {"keyctl", Keyctl},
    {"mkdirat", MkdirAt},
    {"mount", Mount},
    {"newer", Newer},
    {"pidfd_getfd", PidfdGetfd},
    {"process_vm_readv", ProcessVmReadv},
    {"ptrace", Ptrace},
    {"setns", Setns},
    {"tcgets", Tcgets},
    {"tiocsti", Tiocsti},
    {"tiocsti_high", TiocstiHigh},
    {"unshare", Unshare},
    {"unshare32", Unshare32},
    {"userfaultfd", Userfaultfd},
};

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    size_t at = 0;
    while (at < sizeof kCalls / sizeof kCalls[0] && strcmp(kCalls[at].name, argv[i]) != 0) {
      ++at;
    }
    if (at == sizeof kCalls / sizeof kCalls[0]) {
      fprintf(stderr, "syscalls: no call %s\n", argv[i]);
      return 2;
    }
    errno = 0;
    const long result = kCalls[at].make();
    printf("{\"op\": \"%s\", \"ret\": %ld, \"errno\": \"%s\"}\n", argv[i], result,
           result < 0 ? strerrorname_np(errno) : "");
    fflush(stdout);
  }
  return 0;
}
