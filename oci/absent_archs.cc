#include "oci/absent_archs.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace oakum::oci {

std::vector<std::string> AbsentArchs() {
#if defined(__x86_64__) && !defined(__ILP32__)
  constexpr long kX32Bit = 0x40000000;  // __X32_SYSCALL_BIT
  // PR_GET_SECCOMP says 0 to a process without a filter (prctl(2)).
  if (prctl(PR_GET_SECCOMP) == 0 && syscall(kX32Bit + SYS_getpid) == -1 && errno == ENOSYS) {
    return {"SCMP_ARCH_X32"};
  }
#endif
  return {};
}

}  // namespace oakum::oci
