#include "bench/minimal_loop.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "agent/session/notify_fd.h"

namespace oakum::bench {

namespace {

void Serve(const agent::NotifyFd& notify, int pidfd) {
  const auto buffer = notify.NewBuffer();
  for (;;) {
    agent::Notification notification;
    if (notify.Receive(buffer.get(), notification) != 0) {
      if (notify.HungUp()) {
        return;
      }
      continue;
    }
    sockaddr_storage address = {};
    const auto length = static_cast<socklen_t>(notification.args[2]);
    const iovec local = {&address, length};
    const iovec remote = {reinterpret_cast<void*>(notification.args[1]), length};  // NOLINT
    if (process_vm_readv(notification.tid, &local, 1, &remote, 1, 0) < 0 ||
        !notify.IdValid(notification.id)) {
      continue;
    }
    const UniqueFd socket(
        static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, notification.args[0], 0)));
    const int error =
        connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length) == 0 ? 0 : errno;
    (void)notify.Respond(notification.id, 0, error);
  }
}

}  // namespace

MinimalLoop::MinimalLoop(UniqueFd listener, pid_t pid, bool sync_wake_up)
    : thread_([listener = std::move(listener), pid, sync_wake_up]() mutable {
        auto notify = agent::NotifyFd::Create(std::move(listener));
        if (!notify) {
          return;
        }
        if (sync_wake_up) {
          (void)notify->SetSyncWakeUp();
        }
        const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
        Serve(*notify, pidfd.get());
      }) {}

MinimalLoop::~MinimalLoop() { thread_.join(); }

}  // namespace oakum::bench
