#include "bench/minimal_loop.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <span>

#include "agent/session/notify_fd.h"

namespace oakum::bench {

namespace {

using Pieces = std::span<const iovec>;

// What is done for a call, on the caller's socket, with what is read of the caller's memory in as
// few pieces as there are pointers to follow one after the other.
class Work {
 public:
  // `pidfd`: of the process `pid`, kept; -1: done as usual.
  Work(const agent::NotifyFd& notify, const agent::Notification& notification, pid_t pid, int pidfd)
      : call(notification), notify_(notify), pid_(pid), pidfd_(pidfd) {
    if (Usual()) {
      memory_.Reset(open(fmt::format("/proc/{}/mem", call.tid).c_str(), O_RDWR | O_CLOEXEC));
    }
  }

  // No piece of `remote` is for more than one of `local`.
  [[nodiscard]] bool Read(Pieces local, Pieces remote) const {
    if (!Usual()) {
      return process_vm_readv(call.tid, local.data(), local.size(), remote.data(), remote.size(),
                              0) > 0;
    }
    return OneByOne(local, remote, pread);
  }
  [[nodiscard]] bool Read(void* out, uint64_t address, size_t size) const {
    const iovec local = {out, size};
    const iovec remote = {reinterpret_cast<void*>(address), size};  // NOLINT
    return Read({&local, 1}, {&remote, 1});
  }
  bool Write(Pieces local, Pieces remote) const {
    if (!Usual()) {
      return process_vm_writev(call.tid, local.data(), local.size(), remote.data(), remote.size(),
                               0) > 0;
    }
    return OneByOne(local, remote, pwrite);
  }
  [[nodiscard]] UniqueFd Pin() const {
    if (!notify_.IdValid(call.id)) {
      return {};
    }
    const UniqueFd opened(Usual() ? static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)) : -1);
    return UniqueFd(static_cast<int>(
        syscall(SYS_pidfd_getfd, Usual() ? opened.get() : pidfd_, call.args[0], 0)));
  }
  void Answer(int64_t result) const {
    (void)notify_.Respond(call.id, result, result >= 0 ? 0 : errno);
  }

  const agent::Notification& call;

 private:
  [[nodiscard]] bool Usual() const { return pidfd_ < 0; }

  template <typename Transfer>
  bool OneByOne(Pieces local, Pieces remote, Transfer transfer) const {
    size_t index = 0;
    size_t done = 0;  // of local[index]
    for (const iovec& piece : remote) {
      if (transfer(memory_.get(), static_cast<char*>(local[index].iov_base) + done, piece.iov_len,
                   reinterpret_cast<off_t>(piece.iov_base)) !=
          static_cast<ssize_t>(piece.iov_len)) {
        return false;
      }
      done += piece.iov_len;
      if (done == local[index].iov_len) {
        ++index;
        done = 0;
      }
    }
    return true;
  }

  const agent::NotifyFd& notify_;
  pid_t pid_;
  int pidfd_;
  UniqueFd memory_;
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
  if (!work.Read(local, remote)) {
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
  (void)work.Read({&local, 1}, Pieces(remote).first(count));
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
  (void)work.Read(Pieces(places).first(2 * count), Pieces(contents).first(2 * count));
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
  (void)work.Write(Pieces(contents).first(count), Pieces(places).first(count));
  work.Answer(result);
}

// Until there is a call, or nobody is left who could make one.
void Poll(const agent::NotifyFd& notify) {
  pollfd ready = {notify.fd(), POLLIN, 0};
  (void)poll(&ready, 1, -1);
}

void Serve(const agent::NotifyFd& notify, pid_t pid, bool usual) {
  const UniqueFd pidfd(usual ? -1 : static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  const auto buffer = notify.NewBuffer();
  for (;;) {
    if (usual) {
      Poll(notify);
    }
    agent::Notification notification;
    if (notify.Receive(buffer.get(), notification) != 0) {
      if (notify.HungUp()) {
        return;
      }
      continue;
    }
    const Work work(notify, notification, pid, pidfd.get());
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

MinimalLoop::MinimalLoop(UniqueFd listener, pid_t pid, Manner manner)
    : thread_([listener = std::move(listener), pid, manner]() mutable {
        auto notify = agent::NotifyFd::Create(std::move(listener));
        if (!notify) {
          return;
        }
        if (manner == Manner::kMinimal) {
          (void)notify->SetSyncWakeUp(true);
        }
        Serve(*notify, pid, manner == Manner::kAsUsual);
      }) {}

MinimalLoop::~MinimalLoop() { thread_.join(); }

}  // namespace oakum::bench
