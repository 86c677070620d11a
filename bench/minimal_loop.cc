#include "bench/minimal_loop.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

#include "agent/session/notify_fd.h"

namespace oakum::bench {

namespace {

// What is done for a call, on the caller's socket, with what is read of the caller's memory in as
// few pieces as there are pointers to follow one after the other.
struct Work {
  const agent::NotifyFd& notify;
  const agent::Notification& call;
  int pidfd;

  [[nodiscard]] bool Read(void* out, uint64_t address, size_t size) const {
    const iovec local = {out, size};
    const iovec remote = {reinterpret_cast<void*>(address), size};  // NOLINT
    return process_vm_readv(call.tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
  }
  [[nodiscard]] UniqueFd Pin() const {
    if (!notify.IdValid(call.id)) {
      return {};
    }
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, call.args[0], 0)));
  }
  void Answer(int64_t result) const {
    (void)notify.Respond(call.id, result, result >= 0 ? 0 : errno);
  }
};

void Connect(const Work& work) {
  sockaddr_storage address = {};
  const auto length = static_cast<socklen_t>(work.call.args[2]);
  if (!work.Read(&address, work.call.args[1], length)) {
    return;
  }
  UniqueFd socket = work.Pin();
  const int result = connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length);
  socket.Reset();
  work.Answer(result);
}

void Sendto(const Work& work) {
  sockaddr_storage address = {};
  std::array<char, 2048> payload;
  const auto length = static_cast<socklen_t>(work.call.args[5]);
  const size_t size = std::min<size_t>(work.call.args[2], payload.size());
  const std::array local = {iovec{&address, length}, iovec{payload.data(), size}};
  const std::array remote = {iovec{reinterpret_cast<void*>(work.call.args[4]), length},  // NOLINT
                             iovec{reinterpret_cast<void*>(work.call.args[1]), size}};   // NOLINT
  if (process_vm_readv(work.call.tid, local.data(), 2, remote.data(), 2, 0) < 0) {
    return;
  }
  UniqueFd socket = work.Pin();
  const ssize_t result =
      sendto(socket.get(), payload.data(), size, static_cast<int>(work.call.args[3]),
             reinterpret_cast<sockaddr*>(&address), length);
  socket.Reset();
  work.Answer(result);
}

// Each message has a name and one piece.
void Sendmmsg(const Work& work) {
  constexpr size_t kMost = 64;
  struct Entry {
    sockaddr_storage name;
    std::array<char, 2048> payload;
  };
  static thread_local std::array<Entry, kMost> entries;
  std::array<mmsghdr, kMost> headers;
  std::array<iovec, kMost> pieces;
  std::array<iovec, kMost> remote;
  std::array<iovec, kMost * 2> contents;
  std::array<iovec, kMost * 2> places;
  const size_t count = std::min<size_t>(work.call.args[2], kMost);
  if (!work.Read(headers.data(), work.call.args[1], count * sizeof(mmsghdr))) {
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    remote[i] = {headers[i].msg_hdr.msg_iov, sizeof(iovec)};
  }
  const iovec local = {pieces.data(), count * sizeof(iovec)};
  (void)process_vm_readv(work.call.tid, &local, 1, remote.data(), count, 0);
  for (size_t i = 0; i < count; ++i) {
    msghdr& header = headers[i].msg_hdr;
    pieces[i].iov_len = std::min(pieces[i].iov_len, entries[i].payload.size());
    contents[2 * i] = {header.msg_name, header.msg_namelen};
    contents[2 * i + 1] = pieces[i];
    places[2 * i] = {&entries[i].name, header.msg_namelen};
    places[2 * i + 1] = {entries[i].payload.data(), pieces[i].iov_len};
    pieces[i].iov_base = entries[i].payload.data();
    header.msg_name = &entries[i].name;
    header.msg_iov = &pieces[i];
    header.msg_iovlen = 1;
  }
  (void)process_vm_readv(work.call.tid, places.data(), 2 * count, contents.data(), 2 * count, 0);
  UniqueFd socket = work.Pin();
  const int result = sendmmsg(socket.get(), headers.data(), static_cast<unsigned>(count),
                              static_cast<int>(work.call.args[3]));
  socket.Reset();
  for (size_t i = 0; i < count; ++i) {
    contents[i] = {&headers[i].msg_len, sizeof headers[i].msg_len};
    places[i] = {reinterpret_cast<char*>(work.call.args[1]) + i * sizeof(mmsghdr) +  // NOLINT
                     offsetof(mmsghdr, msg_len),
                 sizeof headers[i].msg_len};
  }
  (void)process_vm_writev(work.call.tid, contents.data(), count, places.data(), count, 0);
  work.Answer(result);
}

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
    const Work work = {notify, notification, pidfd};
    switch (notification.nr) {
      case SYS_connect:
        Connect(work);
        break;
      case SYS_sendto:
        Sendto(work);
        break;
      case SYS_sendmmsg:
        Sendmmsg(work);
        break;
      default:
        (void)notify.Respond(notification.id, 0, ENOSYS);
    }
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
