#include "policy/syscall_list.h"

#include <fmt/format.h>
#include <seccomp.h>

#include <array>
#include <vector>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

// Reviewed for Linux 6.18: what is added to the kernel later is in no group. To add a call, say in
// `why` what it is needed for and what it can reach.
constexpr std::array kList = std::to_array<SyscallGroup>({
    {"processes", Listing::kAllowed,
     "Starting, ending and waiting for processes of the container: what every program does. New "
     "processes stay under the filter.",
     "execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid gettid kill "
     "pidfd_open pidfd_send_signal restart_syscall setpgid setsid tgkill tkill vfork wait4 "
     "waitid waitpid"},
    {"threads", Listing::kAllowed,
     "What the C library and the language runtimes need to run threads.",
     "arch_prctl futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake "
     "get_robust_list get_thread_area get_tls membarrier rseq set_robust_list set_thread_area "
     "set_tid_address set_tls"},
    {"scheduling", Listing::kAllowed,
     "Priorities and processors of the caller; raising a priority needs CAP_SYS_NICE.",
     "getcpu getpriority ioprio_get ioprio_set nice sched_get_priority_max "
     "sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler "
     "sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr "
     "sched_setparam sched_setscheduler sched_yield setpriority"},
    {"signals", Listing::kAllowed, "Handling signals, and returning from a handler.",
     "pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
     "rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal "
     "signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend"},
    {"memory", Listing::kAllowed, "Memory of the caller itself, files mapped into it among them.",
     "brk madvise map_shadow_stack memfd_create mincore mlock mlock2 mlockall mmap mmap2 "
     "mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect"},
    {"caches", Listing::kAllowed,
     "Making generated code visible to the processor: just-in-time compilers of ARM, MIPS and "
     "RISC-V.",
     "cachectl cacheflush riscv_flush_icache"},
    {"files", Listing::kAllowed,
     "Files and directories, as far as permissions and mounts let the container see them. mknod "
     "makes named pipes; devices need CAP_MKNOD.",
     "access chdir chmod chown chown32 close close_range creat faccessat faccessat2 fallocate "
     "fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat flock fstat fstat64 fstatat64 "
     "fstatfs fstatfs64 ftruncate ftruncate64 futimesat getcwd getdents getdents64 lchown "
     "lchown32 link linkat lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat "
     "openat2 readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 "
     "statx symlink symlinkat truncate truncate64 umask unlink unlinkat utime utimensat "
     "utimensat_time64 utimes"},
    {"attributes", Listing::kAllowed,
     "Extended attributes of files; security.* and trusted.* ask for capabilities.",
     "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr "
     "listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr "
     "setxattrat"},
    {"data", Listing::kAllowed,
     "Reading, writing and copying through descriptors, and putting data on the disk.",
     "_llseek arm_fadvise64_64 arm_sync_file_range copy_file_range fadvise64 fadvise64_64 "
     "fdatasync fsync lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead "
     "readv sendfile sendfile64 splice sync sync_file_range sync_file_range2 syncfs tee write "
     "writev"},
    {"descriptors", Listing::kAllowed,
     "Duplicating, setting up and waiting for descriptors: the event loop of every server.",
     "_newselect dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 "
     "epoll_wait eventfd eventfd2 fcntl fcntl64 inotify_add_watch inotify_init inotify_init1 "
     "inotify_rm_watch pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select"},
    {"asynchronous input and output", Listing::kAllowed,
     "The older interface (io_submit), for files: nginx and databases. It cannot connect or send "
     "to an address.",
     "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit"},
    {"sockets", Listing::kAllowed,
     "The network: what is not decided here is decided by the rest of the policy.",
     "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom "
     "recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socket "
     "socketcall socketpair"},
    {"shared memory, semaphores and queues", Listing::kAllowed,
     "System V and POSIX, between processes of one IPC namespace: postgres, and much that is "
     "older.",
     "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
     "mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop "
     "semtimedop_time64 shmat shmctl shmdt shmget"},
    {"time", Listing::kAllowed,
     "Reading clocks and waiting. adjtimex and clock_adjtime read; setting a clock needs "
     "CAP_SYS_TIME.",
     "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 "
     "clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer "
     "gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun "
     "timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd timerfd_create "
     "timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times"},
    {"users, groups and capabilities", Listing::kAllowed,
     "Asking who one is, and becoming less: servers give up root with these, and the runtimes do "
     "on the way to the program. Gaining anything needs the capability.",
     "capget capset chroot getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups "
     "getgroups32 getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid "
     "setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 "
     "setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32"},
    {"limits and facts", Listing::kAllowed,
     "Limits of the caller, what it has used, and facts about the machine.",
     "getrandom getrlimit getrusage prctl prlimit64 setrlimit swapcontext sysinfo ugetrlimit "
     "uname"},
    {"sandboxes of the program's own", Listing::kAllowed,
     "seccomp and Landlock only take away: openssh and browsers lock themselves in with them.",
     "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"},
    {"by arguments", Listing::kByArguments,
     "clone without new namespaces: its flags are in a register. ioctl but for TIOCSTI and "
     "TIOCLINUX, which type into the terminal that the program was started from.",
     "clone ioctl"},
    {"as if the kernel had none", Listing::kAbsent,
     "clone3 has its flags in memory, where a filter cannot see new namespaces: with ENOSYS "
     "libraries take clone. io_uring connects and sends with no system call that anybody could "
     "decide.",
     "clone3 io_uring_enter io_uring_register io_uring_setup"},
    {"other processes", Listing::kRefused,
     "Reading, changing and steering other processes, and taking their descriptors: a way to a "
     "socket that was never decided, and to the memory of another container's process where a "
     "namespace is shared.",
     "kcmp pidfd_getfd process_madvise process_mrelease process_vm_readv process_vm_writev "
     "ptrace"},
    {"namespaces", Listing::kRefused,
     "A new user namespace brings every capability in it, and so most of the kernel within "
     "reach; an old socket still sends through the old network namespace.",
     "setns unshare"},
    {"mounts", Listing::kRefused,
     "What the container sees of the file system was settled by the runtime. swapon and quotactl "
     "are of the same kind.",
     "fsconfig fsmount fsopen fspick listmount mount mount_setattr move_mount open_tree "
     "open_tree_attr pivot_root quotactl quotactl_fd statmount swapoff swapon umount umount2"},
    {"file handles", Listing::kRefused,
     "open_by_handle_at opens files of a file system by number, outside the container's root.",
     "name_to_handle_at open_by_handle_at"},
    {"tracing and programs in the kernel", Listing::kRefused,
     "bpf, perf and fanotify see and decide for more than the container, and have been ways into "
     "the kernel.",
     "bpf fanotify_init fanotify_mark lookup_dcookie perf_event_open"},
    {"memory that exploits use", Listing::kRefused,
     "Handling page faults in the program (userfaultfd) and gifting pages to pipes stretch races "
     "in the kernel; secret memory is memory that nothing can look at. Hardly a program needs "
     "them.",
     "cachestat memfd_secret remap_file_pages userfaultfd vmsplice"},
    {"memory of other nodes", Listing::kRefused,
     "NUMA placement moves pages, also of other processes. Add these for a database that places "
     "its memory.",
     "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node"},
    {"keys", Listing::kRefused, "The kernel's keyrings are not divided by container.",
     "add_key keyctl request_key"},
    {"the machine itself", Listing::kRefused,
     "Modules, another kernel, the clock, the name, the log: a container is not the one to "
     "change or read them.",
     "acct clock_settime clock_settime64 delete_module finit_module init_module kexec_file_load "
     "kexec_load lsm_get_self_attr lsm_list_modules lsm_set_self_attr reboot setdomainname "
     "sethostname settimeofday stime syslog vhangup"},
    {"hardware and segments", Listing::kRefused,
     "Ports, segments and other modes of the processor and of the kernel, which only emulators "
     "and debuggers use (add modify_ldt for 32-bit Wine, personality for gdb).",
     "ioperm iopl modify_ldt pciconfig_iobase pciconfig_read pciconfig_write personality rtas "
     "s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_sthyi "
     "spu_create spu_run subpage_prot switch_endian sys_debug_setcontext sysmips usr26 usr32 "
     "vm86 vm86old"},
    {"obsolete", Listing::kRefused,
     "Gone from the kernel, never built, or replaced so long ago that no program of today makes "
     "them. syscall and multiplexer carry any other call in their arguments.",
     "_sysctl afs_syscall bdflush break breakpoint create_module epoll_ctl_old epoll_wait_old "
     "ftime get_kernel_syms getpmsg gtty idle lock mpx multiplexer nfsservctl oldfstat oldlstat "
     "oldolduname oldstat olduname prof profil putpmsg query_module readdir security sgetmask "
     "ssetmask stty syscall sysfs tuxcall ulimit uselib ustat vserver"},
});

}  // namespace

std::span<const SyscallGroup> SyscallList() { return kList; }

std::string_view NextCall(std::string_view& calls) {
  const std::string_view call = calls.substr(0, calls.find(' '));
  calls.remove_prefix(call.size() == calls.size() ? calls.size() : call.size() + 1);
  return call;
}

const SyscallGroup* FindSyscallGroup(std::string_view call) {
  for (const SyscallGroup& group : kList) {
    for (std::string_view rest = group.calls; !rest.empty();) {
      if (NextCall(rest) == call) {
        return &group;
      }
    }
  }
  return nullptr;
}

bool IsKnownToLibseccomp(std::string_view call) {
  return seccomp_syscall_resolve_name(std::string(call).c_str()) != __NR_SCMP_ERROR;
}

std::string UnknownSyscall(std::string_view call) {
  if (FindSyscallGroup(call) != nullptr || IsKnownToLibseccomp(call)) {
    return {};
  }
  std::vector<std::string_view> known;
  for (const SyscallGroup& group : kList) {
    for (std::string_view rest = group.calls; !rest.empty();) {
      known.push_back(NextCall(rest));
    }
  }
  return fmt::format("there is no system call \"{}\"{}", Escape(call), DidYouMean(call, known));
}

}  // namespace oakum::policy
