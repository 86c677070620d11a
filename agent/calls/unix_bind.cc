#include "agent/calls/unix_bind.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>

#include "agent/caller/identity.h"

namespace oakum::agent {

namespace {

constexpr size_t kChildStack = size_t{64} * 1024;

bool SameFile(const char* a, const std::string& b) {
  struct stat one = {};
  struct stat other = {};
  return stat(a, &one) == 0 && stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

struct Job {
  const Caller& caller;
  int socket_fd;
  const SockaddrCopy& address;
  bool switch_ids;
};

// Runs in a process that is a copy of one thread of ours, whatever the others hold: nothing here
// allocates, and the calls are raw ones, for glibc's wrappers of set*id would signal other threads.
// 0 or an errno value.
int Perform(const Job& job) {
  const TaskStatus& status = job.caller.status;
  // The caller is in its working directory already, whoever else may go there.
  SetEffectiveCapabilities(CapabilityBit(CAP_SYS_CHROOT) | CapabilityBit(CAP_DAC_READ_SEARCH) |
                           CapabilityBit(CAP_SETUID) | CapabilityBit(CAP_SETGID));
  const bool moved = job.caller.same_root || (syscall(SYS_fchdir, job.caller.root.get()) == 0 &&
                                              syscall(SYS_chroot, ".") == 0);
  if (!moved || syscall(SYS_fchdir, job.caller.cwd.get()) != 0) {
    return errno;
  }
  syscall(SYS_umask, status.umask);
  // close_range(2): Linux 5.9.
  if ((job.socket_fd != 0 && syscall(SYS_dup3, job.socket_fd, 0, 0) != 0) ||
      syscall(SYS_close_range, 1U, ~0U, 0) != 0) {
    return errno;
  }
  if (job.switch_ids && (syscall(SYS_setgroups, status.groups.size(), status.groups.data()) != 0 ||
                         syscall(SYS_setresgid, -1, status.egid, -1) != 0 ||
                         syscall(SYS_setresuid, -1, status.euid, -1) != 0)) {
    return EPERM;
  }
  constexpr uint64_t kFiles = CapabilityBit(CAP_DAC_OVERRIDE) | CapabilityBit(CAP_DAC_READ_SEARCH);
  SetEffectiveCapabilities(job.caller.same_user_namespace ? status.effective_capabilities & kFiles
                                                          : 0);
  return syscall(SYS_bind, 0, job.address.get(), job.address.length) == 0 ? 0 : errno;
}

}  // namespace

Expected<Caller> LookAtCaller(pid_t tid) {
  auto status = ReadTaskStatus(tid);
  if (!status) {
    return std::unexpected(std::move(status.error()));
  }
  const std::string proc = fmt::format("/proc/{}/", tid);
  Caller caller;
  caller.status = std::move(*status);
  caller.root.Reset(open((proc + "root").c_str(), O_PATH | O_CLOEXEC));
  caller.cwd.Reset(open((proc + "cwd").c_str(), O_PATH | O_CLOEXEC));
  if (!caller.root || !caller.cwd) {
    return ErrnoError("open the caller's root and working directory");
  }
  caller.same_user_namespace = InOwnUserNamespace(tid);
  caller.same_root = SameFile("/proc/self/ns/mnt", proc + "ns/mnt") && SameFile("/", proc + "root");
  return caller;
}

int BindUnixPath(const Caller& caller, int socket_fd, const SockaddrCopy& address) {
  const uid_t own = geteuid();
  if (own != 0 && own != caller.status.euid) {
    return EPERM;  // an agent without CAP_SETUID guards processes of its own user only
  }
  Job job{caller, socket_fd, address, own == 0};
  const auto stack = std::make_unique<char[]>(kChildStack);
  // No handler may run in the child.
  sigset_t all = {};
  sigset_t before = {};
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // Without SIGCHLD, so that no wait(2) of the program finds it. An errno value fits the exit
  // status.
  const pid_t child = clone([](void* argument) { return Perform(*static_cast<Job*>(argument)); },
                            stack.get() + kChildStack, 0, &job);
  int error = child < 0 ? errno : 0;
  if (child >= 0) {
    int status = 0;
    pid_t waited = -1;
    while ((waited = waitpid(child, &status, __WCLONE)) < 0 && errno == EINTR) {
    }
    error = waited == child && WIFEXITED(status) ? WEXITSTATUS(status) : EACCES;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

}  // namespace oakum::agent
