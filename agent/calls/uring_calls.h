// Calls that must not wait, on sockets that may be blocking.
#ifndef OAKUM_AGENT_CALLS_URING_CALLS_H_
#define OAKUM_AGENT_CALLS_URING_CALLS_H_

#include <liburing.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <optional>

#include "agent/caller/sockaddr.h"
#include "agent/caller/socket_kinds.h"
#include "base/error.h"

namespace oakum::agent {

// A pinned socket shares O_NONBLOCK with the container, so it cannot be made non-blocking. io_uring
// tries CONNECT and ACCEPT without waiting whatever the flag says, and waits by poll; the wait is
// cancelled at once and left to the reactor. Not thread-safe.
class UringCalls final : public KindReader {
 public:
  // Errors: io_uring_setup(2)'s: ENOSYS or EPERM where io_uring is switched off
  // (/proc/sys/kernel/io_uring_disabled).
  // `one_thread`: only the creating thread will use it, which is a little faster.
  [[nodiscard]] static Expected<std::unique_ptr<UringCalls>> Create(bool one_thread);
  ~UringCalls() override;
  UringCalls(const UringCalls&) = delete;
  UringCalls& operator=(const UringCalls&) = delete;

  // connect(2) that answers 0, EINPROGRESS where it would wait (the attempt goes on in the kernel),
  // or the errno value of connect.
  [[nodiscard]] int Connect(int socket_fd, const sockaddr* address, socklen_t length);
  // accept4(2) that returns a descriptor, -EAGAIN where it would wait, or minus the errno value.
  // `length` is in and out as with accept4.
  [[nodiscard]] int Accept(int socket_fd, sockaddr* address, socklen_t* length, int flags);
  // What kind of socket it is, in one system call; nothing where the kernel is older than that
  // (Linux 6.7). Only for what is known to be a socket: to other files the same request may mean
  // anything (io_uring_enter(2), IORING_OP_URING_CMD).
  [[nodiscard]] std::optional<SocketKind> ReadKind(int socket_fd) override;

 private:
  UringCalls() = default;
  // Submits the one prepared entry; -ECANCELED when it would wait.
  [[nodiscard]] int Run();

  io_uring ring_ = {};
  bool ready_ = false;
  bool reads_kinds_ = true;         // as far as is known
  std::array<int, 3> kind_values_;  // written by the kernel
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_URING_CALLS_H_
