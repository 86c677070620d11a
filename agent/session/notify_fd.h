// The seccomp user notification descriptor, seccomp_unotify(2).
#ifndef OAKUM_AGENT_SESSION_NOTIFY_FD_H_
#define OAKUM_AGENT_SESSION_NOTIFY_FD_H_

#include <linux/seccomp.h>

#include <cstdint>
#include <memory>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// One notification as the kernel gave it. `tid` is a thread id in the agent's pid namespace; 0 when
// the thread is not visible from there.
struct Notification {
  uint64_t id = 0;
  pid_t tid = 0;
  int nr = 0;
  uint32_t arch = 0;  // AUDIT_ARCH_*
  uint64_t instruction_pointer = 0;
  uint64_t args[6] = {};
};

[[nodiscard]] Notification ReadNotification(const seccomp_notif& raw);

// Owns a listener. Methods return an errno value, 0 for success. All of them are safe from several
// threads; libseccomp's wrappers are not used because 2.5 turns every errno into ECANCELED.
class NotifyFd {
 public:
  // Whether `fd` is a seccomp listener.
  [[nodiscard]] static bool IsListener(int fd);
  // Whether both are of one listener (fcntl(2), F_DUPFD_QUERY; kcmp(2)). False where the kernel has
  // neither.
  [[nodiscard]] bool IsSameAs(int other_fd) const;
  // Errors: EINVAL when `fd` is not a seccomp listener.
  [[nodiscard]] static Expected<NotifyFd> Create(UniqueFd fd);

  // Whether each wake-up is to be on the waker's processor, of the agent by a caller and of a
  // caller by its answer (Linux 6.6, SECCOMP_IOCTL_NOTIF_SET_FLAGS). EINVAL where the kernel does
  // not know it, EINTR after a signal.
  [[nodiscard]] int SetSyncWakeUp(bool sync) const;
  // Blocks until there is a notification. EINTR after a signal; ENOENT when the caller died between
  // waking this thread and being read, or, for ever, once every task of the filter is gone.
  // `buffer` is this thread's, from NewBuffer(), or a journal's slot: the kernel writes there
  // before this thread can be ended.
  [[nodiscard]] int Receive(seccomp_notif* buffer, Notification& out) const;
  // Whether the call is still waiting for an answer.
  [[nodiscard]] bool IdValid(uint64_t id) const;
  // Answers with `value`, or with -`error` when error is not 0. ENOENT when nobody waits any more.
  [[nodiscard]] int Respond(uint64_t id, int64_t value, int error) const;
  // Lets the kernel carry out the call itself (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
  [[nodiscard]] int Continue(uint64_t id) const;
  // Installs a duplicate of `fd` in the caller and answers with its number in one step
  // (SECCOMP_ADDFD_FLAG_SEND, Linux 5.14). `fd_flags`: 0 or O_CLOEXEC.
  [[nodiscard]] int RespondWithFd(uint64_t id, int fd, uint32_t fd_flags) const;
  // Whether every task that uses the filter has gone (POLLHUP, Linux 5.8).
  [[nodiscard]] bool HungUp() const;

  // A zeroed buffer of the size that the running kernel wants (SECCOMP_GET_NOTIF_SIZES).
  struct BufferDeleter {
    void operator()(seccomp_notif* buffer) const;
  };
  using Buffer = std::unique_ptr<seccomp_notif, BufferDeleter>;
  [[nodiscard]] Buffer NewBuffer() const;

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  NotifyFd(UniqueFd fd, seccomp_notif_sizes sizes) : fd_(std::move(fd)), sizes_(sizes) {}
  [[nodiscard]] int Send(uint64_t id, int64_t value, int error, uint32_t flags) const;

  UniqueFd fd_;
  seccomp_notif_sizes sizes_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_NOTIFY_FD_H_
