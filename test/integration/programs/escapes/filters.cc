// Seccomp filters of the program's own, and tracers that change calls.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <thread>

#include "support.h"

namespace oakum::escapes {

namespace {

// Installs a filter that answers `action` to call number `nr` and allows all others. 0 or errno;
// a listener is left open.
int Install(long nr, uint32_t action, unsigned flags = 0) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof code / sizeof code[0], code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return ErrorOf(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

int Strict() {
  int pipes[2] = {-1, -1};
  if (pipe(pipes) != 0) {
    return 255;
  }
  const pid_t child = fork();
  if (child == 0) {
    // In strict mode there is only read, write, exit and sigreturn (seccomp(2)).
    const int error = ErrorOf(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    (void)!write(pipes[1], &error, sizeof error);
    syscall(SYS_exit, 0);
  }
  int error = 255;
  (void)!read(pipes[0], &error, sizeof error);
  waitpid(child, nullptr, 0);
  return error;
}

int Tsync(const char* ip) {
  std::atomic<bool> installed{false};
  int result = 255;
  std::thread other([&] {
    while (!installed.load()) {
      usleep(1000);
    }
    result = Connect(ip);
  });
  const int error = Install(SYS_getppid, SECCOMP_RET_ALLOW, SECCOMP_FILTER_FLAG_TSYNC);
  installed.store(true);
  other.join();
  return error != 0 ? 254 : result;
}

#if defined(__x86_64__)
// The child makes harmless calls with the arguments of a connect; the tracer, which is the
// container's own, turns them into that. `by_filter`: where a filter of the child's own has stopped
// it (SECCOMP_RET_TRACE), else at the entry of the call.
int Traced(const char* ip, bool by_filter) {
  const pid_t child = fork();
  if (child == 0) {
    const int fd = Socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = At(ip);
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    if (by_filter) {
      Install(SYS_getppid, SECCOMP_RET_TRACE);
    }
    _exit(ErrorOf(syscall(SYS_getppid, fd, &address, sizeof address)));
  }
  int status = 0;
  waitpid(child, &status, 0);
  ptrace(PTRACE_SETOPTIONS, child, nullptr,
         PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL);
  bool changed = false;
  for (;;) {
    ptrace(by_filter ? PTRACE_CONT : PTRACE_SYSCALL, child, nullptr, nullptr);
    if (waitpid(child, &status, 0) != child || WIFEXITED(status) || WIFSIGNALED(status)) {
      break;
    }
    const bool stopped = by_filter ? status >> 8 == (SIGTRAP | (PTRACE_EVENT_SECCOMP << 8))
                                   : WSTOPSIG(status) == (SIGTRAP | 0x80);
    user_regs_struct registers = {};
    ptrace(PTRACE_GETREGS, child, nullptr, &registers);
    if (stopped && !changed && registers.orig_rax == SYS_getppid) {
      registers.orig_rax = SYS_connect;
      ptrace(PTRACE_SETREGS, child, nullptr, &registers);
      changed = true;
    }
  }
  return WIFEXITED(status) && changed ? WEXITSTATUS(status) : 255;
}
#endif

}  // namespace

int Filters(char** words) {
  const char* bad = words[0];
  const char* good = words[1];
  Print("allow",
        InChild([=] { return Install(SYS_connect, SECCOMP_RET_ALLOW) != 0 ? 254 : Connect(bad); }));
  Print("errno", InChild([=] {
          Install(SYS_connect, SECCOMP_RET_ERRNO | EHOSTUNREACH);
          return Connect(good);
        }));
  Print("trap", InChild([=] {
          Install(SYS_connect, SECCOMP_RET_TRAP);
          signal(SIGSYS, [](int) { _exit(ESRCH); });
          return Connect(good);
        }));
  Print("notify", InChild([=] {
          Install(SYS_connect, SECCOMP_RET_USER_NOTIF);
          return Connect(bad);
        }));
  Print("trace", InChild([=] {
          Install(SYS_connect, SECCOMP_RET_TRACE);
          return Connect(bad);
        }));
  Print("tsync", InChild([=] { return Tsync(bad); }));
  Print("listener", InChild([] {
          return Install(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
        }));
  Print("strict", Strict());
  return 0;
}

int Tracer(char** words) {
#if defined(__x86_64__)
  Print("entry", Traced(words[0], false));
  Print("filter", Traced(words[0], true));
#else
  (void)words;
#endif
  return 0;
}

// PTRACE_O_SUSPEND_SECCOMP switches the filters of a tracee off (ptrace(2)).
int SuspendSeccomp(char**) {
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  Print("suspend", ErrorOf(ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_SUSPEND_SECCOMP)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return 0;
}

}  // namespace oakum::escapes
