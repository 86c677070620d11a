// What the running kernel has of what Oakum uses.
#ifndef OAKUM_CLI_KERNEL_FEATURES_H_
#define OAKUM_CLI_KERNEL_FEATURES_H_

#include <cstdint>

namespace oakum::cli {

struct KernelFeatures {
  // Why no listener could be made; 0 when one could, EBUSY when this process is guarded itself.
  int listener_errno = 0;
  bool addfd_send = false;           // SECCOMP_ADDFD_FLAG_SEND, Linux 5.14
  bool sync_wake_up = false;         // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
  bool wait_killable = false;        // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19
  bool keeps_wait_killable = false;  // and throws no answer away under it, Linux 6.18
  bool pidfd_getfd = false;          // Linux 5.6
  bool pidfd_thread = false;         // Linux 6.9
  bool io_uring = false;             // and not switched off (kernel.io_uring_disabled)
};

// Tries each of them in a child process, under a filter that allows everything.
[[nodiscard]] KernelFeatures ProbeKernel();

}  // namespace oakum::cli

#endif  // OAKUM_CLI_KERNEL_FEATURES_H_
