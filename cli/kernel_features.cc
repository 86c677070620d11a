#include "cli/kernel_features.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/unique_fd.h"
#include "oci/wait_killable.h"

// Names that the headers of older systems lack; the values are the kernel's interface.
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

namespace oakum::cli {

namespace {

// PIDFD_THREAD is O_EXCL (pidfd_open(2)).
constexpr unsigned kPidfdThread = O_EXCL;

int NewListener(const sock_fprog& program) {
  return static_cast<int>(
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

// What needs a listener. An id that no notification has is ENOENT, an unknown flag EINVAL.
void ProbeListener(int listener, KernelFeatures& features) {
  seccomp_notif_addfd addfd = {};
  addfd.flags = SECCOMP_ADDFD_FLAG_SEND;
  addfd.srcfd = static_cast<uint32_t>(listener);
  features.addfd_send = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd) != 0 && errno == ENOENT;
  features.sync_wake_up =
      ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) == 0;
}

KernelFeatures ProbeHere() {
  KernelFeatures features;
  const UniqueFd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  features.pidfd_getfd =
      UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, self.get(), self.get(), 0))).valid();
  features.pidfd_thread =
      UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), kPidfdThread))).valid();
  features.wait_killable = oci::KernelKnowsWaitKillable();
  features.keeps_wait_killable = oci::KernelWaitsKillable();
  io_uring_params params = {};
  features.io_uring = UniqueFd(static_cast<int>(syscall(SYS_io_uring_setup, 1, &params))).valid();
  (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_fprog program{.len = 1, .filter = &allow};
  const UniqueFd listener(NewListener(program));
  features.listener_errno = listener ? 0 : errno;
  if (listener) {
    ProbeListener(listener.get(), features);
  }
  return features;
}

}  // namespace

KernelFeatures ProbeKernel() {
  KernelFeatures features{.listener_errno = EIO};
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) {
    return features;
  }
  const UniqueFd out(fds[0]);
  UniqueFd in(fds[1]);
  const pid_t pid = fork();
  if (pid == 0) {
    const KernelFeatures found = ProbeHere();
    _exit(write(in.get(), &found, sizeof found) == sizeof found ? 0 : 1);
  }
  in.Reset();
  KernelFeatures found;
  if (pid > 0 && read(out.get(), &found, sizeof found) == sizeof found) {
    features = found;
  }
  while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return features;
}

}  // namespace oakum::cli
