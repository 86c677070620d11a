#include "agent/server/privileges.h"

#include <cap-ng.h>
#include <fmt/format.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

namespace oakum::agent {

namespace {

constexpr std::array kNeeded = {
    CAP_SYS_PTRACE,        // to read containers' memory and take their sockets (pidfd_getfd(2))
    CAP_SYS_ADMIN,         // setns(2); bpf(2), so that they do not connect what they should not
    CAP_SYS_CHROOT,        // to bind unix sockets where a container's root is
    CAP_KILL,              // for policies that end containers
    CAP_NET_BIND_SERVICE,  // to bind ports below 1024 for whom it may
    CAP_NET_ADMIN,         // to know a container's network again; bpf(2)
    CAP_NET_RAW,           // to tell a socket that waits why its proxy has failed
    CAP_DAC_OVERRIDE,      // to reach unix sockets for whom it may
    CAP_DAC_READ_SEARCH,   // to follow containers' paths
    CAP_SETUID,            // to have their user while something is done for them
    CAP_SETGID,            // to have their groups, likewise
};

constexpr std::array kRefused = {
// Programs and other processes.
#if !defined(__SANITIZE_ADDRESS__)  // which looks for leaks in this way, at the end
    "ptrace",
#endif
    "execve", "execveat", "process_madvise", "move_pages", "migrate_pages", "personality",
    "unshare",
    // File systems.
    "mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount",
    "fsconfig", "fspick", "mount_setattr", "mknod", "mknodat", "swapon", "swapoff", "quotactl",
    "quotactl_fd", "acct", "open_by_handle_at", "fanotify_init", "setxattr", "lsetxattr",
    "fsetxattr", "removexattr", "lremovexattr", "fremovexattr",
    // The kernel and the machine.
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
    "iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "syslog", "vhangup", "sethostname",
    "setdomainname", "settimeofday", "clock_settime", "clock_settime64", "clock_adjtime",
    "clock_adjtime64", "adjtimex", "stime", "nfsservctl", "uselib", "_sysctl", "sysfs",
    "lookup_dcookie", "perf_event_open", "userfaultfd",
    // Keys.
    "add_key", "keyctl", "request_key"};

Expected<void> KeepCapabilities(Keeps keeps) {
  if (capng_get_caps_process() != 0) {
    return ErrnoError("read the process's capabilities");
  }
  std::vector<unsigned> kept;
  for (const int number : kNeeded) {
    const auto capability = static_cast<unsigned>(number);
    if (keeps == Keeps::kNeeded && capng_have_capability(CAPNG_PERMITTED, capability) != 0) {
      kept.push_back(capability);
    }
  }
  const bool may_cut = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : kept) {
    (void)capng_update(
        CAPNG_ADD,
        static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET),
        capability);
  }
  if (may_cut && capng_apply(CAPNG_SELECT_BOUNDS) != 0) {
    return ErrnoError("cut down the capability bounding set");
  }
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) {
    return ErrnoError("give up capabilities");
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return ErrnoError("prctl(PR_CAP_AMBIENT)");
  }
  return {};
}

}  // namespace

Expected<void> RefuseSystemCalls(std::span<const char* const> names) {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                 &seccomp_release);
  if (filter == nullptr) {
    return ErrnoError(ENOMEM, "make the agent's own seccomp filter");
  }
  for (const char* name : names) {
    const int number = seccomp_syscall_resolve_name(name);
    // Unknown to this libseccomp: then it knows no number to refuse. Pseudo numbers are of other
    // architectures.
    if (number == __NR_SCMP_ERROR || number < 0) {
      continue;
    }
    if (const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 0);
        error != 0) {
      return ErrnoError(-error, fmt::format("refuse {} to the agent", name));
    }
  }
  if (const int error = seccomp_load(filter.get()); error != 0) {
    return ErrnoError(-error, "load the agent's own seccomp filter");
  }
  return {};
}

Expected<void> GiveUpPrivileges(Keeps keeps) {
  const rlimit no_core = {0, 0};
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0) {
    return ErrnoError("keep the agent's memory out of core dumps");
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return ErrnoError("prctl(PR_SET_NO_NEW_PRIVS)");
  }
  if (auto kept = KeepCapabilities(keeps); !kept) {
    return kept;
  }
  return RefuseSystemCalls(kRefused);
}

}  // namespace oakum::agent
