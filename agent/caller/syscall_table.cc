#include "agent/caller/syscall_table.h"

#include <linux/audit.h>
#include <sys/syscall.h>

#include <array>

namespace oakum::agent {

namespace {

struct Entry {
  int nr;
  Call call;
  const char* name;
};

constexpr std::array kNative = {
    Entry{SYS_connect, Call::kConnect, "connect"},
    Entry{SYS_sendto, Call::kSendto, "sendto"},
    Entry{SYS_sendmsg, Call::kSendmsg, "sendmsg"},
    Entry{SYS_sendmmsg, Call::kSendmmsg, "sendmmsg"},
    Entry{SYS_recvfrom, Call::kRecvfrom, "recvfrom"},
    Entry{SYS_recvmsg, Call::kRecvmsg, "recvmsg"},
    Entry{SYS_recvmmsg, Call::kRecvmmsg, "recvmmsg"},
    Entry{SYS_bind, Call::kBind, "bind"},
    Entry{SYS_listen, Call::kListen, "listen"},
    Entry{SYS_accept, Call::kAccept, "accept"},
    Entry{SYS_accept4, Call::kAccept4, "accept4"},
    Entry{SYS_socket, Call::kSocket, "socket"},
    Entry{SYS_setsockopt, Call::kSetsockopt, "setsockopt"},
    Entry{SYS_getpeername, Call::kGetpeername, "getpeername"},
    Entry{SYS_io_uring_setup, Call::kIoUringSetup, "io_uring_setup"},
    Entry{SYS_io_uring_enter, Call::kIoUringEnter, "io_uring_enter"},
    Entry{SYS_io_uring_register, Call::kIoUringRegister, "io_uring_register"},
};

#if defined(__x86_64__)
constexpr uint32_t kNativeArch = AUDIT_ARCH_X86_64;
constexpr uint32_t kCompatArch = AUDIT_ARCH_I386;
// arch/x86/entry/syscalls/syscall_32.tbl
constexpr std::array kCompat = {
    Entry{102, Call::kSocketcall, "socketcall"},
    Entry{337, Call::kRecvmmsg, "recvmmsg"},
    Entry{345, Call::kSendmmsg, "sendmmsg"},
    Entry{359, Call::kSocket, "socket"},
    Entry{361, Call::kBind, "bind"},
    Entry{362, Call::kConnect, "connect"},
    Entry{363, Call::kListen, "listen"},
    Entry{364, Call::kAccept4, "accept4"},
    Entry{366, Call::kSetsockopt, "setsockopt"},
    Entry{368, Call::kGetpeername, "getpeername"},
    Entry{369, Call::kSendto, "sendto"},
    Entry{370, Call::kSendmsg, "sendmsg"},
    Entry{371, Call::kRecvfrom, "recvfrom"},
    Entry{372, Call::kRecvmsg, "recvmsg"},
    Entry{417, Call::kRecvmmsgTime64, "recvmmsg_time64"},
    Entry{425, Call::kIoUringSetup, "io_uring_setup"},
    Entry{426, Call::kIoUringEnter, "io_uring_enter"},
    Entry{427, Call::kIoUringRegister, "io_uring_register"},
};
#elif defined(__aarch64__)
constexpr uint32_t kNativeArch = AUDIT_ARCH_AARCH64;
constexpr uint32_t kCompatArch = AUDIT_ARCH_ARM;
// arch/arm64/tools/syscall_32.tbl
constexpr std::array kCompat = {
    Entry{281, Call::kSocket, "socket"},
    Entry{282, Call::kBind, "bind"},
    Entry{283, Call::kConnect, "connect"},
    Entry{284, Call::kListen, "listen"},
    Entry{285, Call::kAccept, "accept"},
    Entry{287, Call::kGetpeername, "getpeername"},
    Entry{290, Call::kSendto, "sendto"},
    Entry{292, Call::kRecvfrom, "recvfrom"},
    Entry{294, Call::kSetsockopt, "setsockopt"},
    Entry{296, Call::kSendmsg, "sendmsg"},
    Entry{297, Call::kRecvmsg, "recvmsg"},
    Entry{365, Call::kRecvmmsg, "recvmmsg"},
    Entry{366, Call::kAccept4, "accept4"},
    Entry{374, Call::kSendmmsg, "sendmmsg"},
    Entry{417, Call::kRecvmmsgTime64, "recvmmsg_time64"},
    Entry{425, Call::kIoUringSetup, "io_uring_setup"},
    Entry{426, Call::kIoUringEnter, "io_uring_enter"},
    Entry{427, Call::kIoUringRegister, "io_uring_register"},
};
#else
#error "Oakum knows the system call tables of x86-64 and arm64."
#endif

}  // namespace

CallKind LookUpCall(uint32_t arch, int nr) {
  if (arch == kNativeArch) {
    for (const Entry& entry : kNative) {
      if (entry.nr == nr) {
        return {entry.call, entry.name, false};
      }
    }
  } else if (arch == kCompatArch) {
    for (const Entry& entry : kCompat) {
      if (entry.nr == nr) {
        return {entry.call, entry.name, true};
      }
    }
  }
  return {};
}

}  // namespace oakum::agent
