#include "agent/session/notify_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

// Younger than the headers of Debian 12 (Linux 6.6 and 5.14).
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

// Linux 6.10.
#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY (F_LINUX_SPECIFIC_BASE + 3)
#endif
#ifndef F_LINUX_SPECIFIC_BASE
#define F_LINUX_SPECIFIC_BASE 1024
#endif

#include "agent/kept/journal.h"

namespace oakum::agent {

namespace {

// Responses are sent from the stack; no kernel so far wants more than this.
constexpr size_t kMaxResponse = 64;

int ErrnoOf(int result) { return result == 0 ? 0 : errno; }

}  // namespace

Notification ReadNotification(const seccomp_notif& raw) {
  Notification out;
  out.id = raw.id;
  out.tid = static_cast<pid_t>(raw.pid);
  out.nr = raw.data.nr;
  out.arch = raw.data.arch;
  out.instruction_pointer = raw.data.instruction_pointer;
  for (size_t i = 0; i < 6; ++i) {
    out.args[i] = raw.data.args[i];
  }
  return out;
}

bool NotifyFd::IsListener(int fd) {
  // What is something else is not spoken to: the ioctl(2) of a device may do anything, and that of
  // a file server (fuse(4)) may never return.
  constexpr std::string_view kName = "anon_inode:seccomp notify";
  std::array<char, kName.size() + 1> name;
  const ssize_t length =
      readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), name.data(), name.size());
  if (std::string_view(name.data(), static_cast<size_t>(std::max<ssize_t>(0, length))) != kName) {
    return false;
  }
  // No notification has the id 0: a listener says ENOENT, whatever is not a listener says ENOTTY or
  // EINVAL.
  uint64_t id = 0;
  return ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 || errno == ENOENT;
}

bool NotifyFd::IsSameAs(int other_fd) const {
  const int answer = fcntl(fd_.get(), F_DUPFD_QUERY, other_fd);
  if (answer >= 0) {
    return answer == 1;
  }
  const pid_t self = getpid();
  return syscall(SYS_kcmp, self, self, KCMP_FILE, fd_.get(), other_fd) == 0;
}

Expected<NotifyFd> NotifyFd::Create(UniqueFd fd) {
  seccomp_notif_sizes sizes = {};
  if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) {
    return ErrnoError("seccomp(SECCOMP_GET_NOTIF_SIZES)");
  }
  if (sizes.seccomp_notif_resp > kMaxResponse ||
      sizes.seccomp_notif_resp < sizeof(seccomp_notif_resp) ||
      sizes.seccomp_notif > kMaxNotificationSize) {
    return MakeError(EINVAL, "this kernel's seccomp notifications have an unknown size");
  }
  if (!IsListener(fd.get())) {
    return MakeError(EINVAL, "the descriptor is not a seccomp listener");
  }
  return NotifyFd(std::move(fd), sizes);
}

int NotifyFd::SetSyncWakeUp(bool sync) const {
  return ErrnoOf(ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                       sync ? SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP : 0UL));
}

void NotifyFd::BufferDeleter::operator()(seccomp_notif* buffer) const { std::free(buffer); }

NotifyFd::Buffer NotifyFd::NewBuffer() const {
  const size_t size = std::max<size_t>(sizes_.seccomp_notif, sizeof(seccomp_notif));
  return Buffer(static_cast<seccomp_notif*>(std::calloc(1, size)));
}

int NotifyFd::Receive(seccomp_notif* buffer, Notification& out) const {
  // The kernel refuses a buffer that is not zeroed (seccomp_unotify(2)).
  if (sizes_.seccomp_notif <= sizeof(seccomp_notif)) {
    *buffer = {};
  } else {
    memset(buffer, 0, sizes_.seccomp_notif);
  }
  if (ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_RECV, buffer) != 0) {
    return errno;
  }
  out = ReadNotification(*buffer);
  return 0;
}

bool NotifyFd::IdValid(uint64_t id) const {
  return ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

int NotifyFd::Send(uint64_t id, int64_t value, int error, uint32_t flags) const {
  alignas(seccomp_notif_resp) char room[kMaxResponse] = {};
  seccomp_notif_resp response = {};
  response.id = id;
  response.val = value;
  response.error = -error;
  response.flags = flags;
  memcpy(room, &response, sizeof response);
  return ErrnoOf(ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SEND, room));
}

int NotifyFd::Respond(uint64_t id, int64_t value, int error) const {
  return Send(id, error == 0 ? value : 0, error, 0);
}

int NotifyFd::Continue(uint64_t id) const {
  return Send(id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

int NotifyFd::RespondWithFd(uint64_t id, int fd, uint32_t fd_flags) const {
  seccomp_notif_addfd add = {};
  add.id = id;
  add.flags = SECCOMP_ADDFD_FLAG_SEND;
  add.srcfd = static_cast<uint32_t>(fd);
  add.newfd_flags = fd_flags;
  const int result = ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &add);
  return result >= 0 ? 0 : errno;
}

bool NotifyFd::HungUp() const {
  pollfd poll_fd = {fd_.get(), 0, 0};
  return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace oakum::agent
