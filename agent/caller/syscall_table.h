// Which system call a notification stands for, on the native entry and on the compatible ones.
#ifndef OAKUM_AGENT_CALLER_SYSCALL_TABLE_H_
#define OAKUM_AGENT_CALLER_SYSCALL_TABLE_H_

#include <cstdint>

namespace oakum::agent {

enum class Call : uint8_t {
  kConnect,
  kSendto,
  kSendmsg,
  kSendmmsg,
  kRecvfrom,
  kRecvmsg,
  kRecvmmsg,
  kRecvmmsgTime64,  // of 32-bit programs, with a 64-bit timespec
  kBind,
  kListen,
  kAccept,
  kAccept4,
  kSocket,
  kSetsockopt,
  kGetpeername,
  kSocketcall,  // 32-bit multiplexer, socketcall(2)
  kIoUringSetup,
  kIoUringEnter,
  kIoUringRegister,
  kUnknown,
};

struct CallKind {
  Call call = Call::kUnknown;
  const char* name = "unknown";
  bool compat = false;  // pointers and lengths in memory are 32 bits wide
};

// Looks `nr` up for `arch` (AUDIT_ARCH_*). kUnknown for what no plan of ours notifies.
[[nodiscard]] CallKind LookUpCall(uint32_t arch, int nr);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_SYSCALL_TABLE_H_
