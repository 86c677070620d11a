// A kernel for programs that run under valgrind(1), which has neither seccomp listeners nor pidfds.
#ifndef OAKUM_BENCH_STUB_KERNEL_H_
#define OAKUM_BENCH_STUB_KERNEL_H_

#include <sys/socket.h>

#include <cstdint>

#include "base/unique_fd.h"

namespace oakum::bench {

// What the one stubbed listener delivers: `calls` times connect(2) of the descriptor `socket_fd` of
// this process to `address`, made by this thread. Then it hangs up.
struct StubCalls {
  int socket_fd = -1;
  const sockaddr* address = nullptr;
  socklen_t length = 0;
  uint64_t calls = 0;
};

// A listener that the stubs of ioctl(2), readlink(2) and syscall(2) in this program take for one;
// everything else that is asked of them reaches the real kernel. Once in the life of a program.
[[nodiscard]] UniqueFd MakeStubListener(const StubCalls& calls);
// How many of its calls have been answered with success, and how many in another way.
[[nodiscard]] uint64_t StubAnswered();
[[nodiscard]] uint64_t StubFailed();

}  // namespace oakum::bench

#endif  // OAKUM_BENCH_STUB_KERNEL_H_
