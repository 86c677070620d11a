#include "agent/calls/uring_calls.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace oakum::agent {

namespace {

constexpr unsigned kEntries = 4;
constexpr uint64_t kCallTag = 1;
constexpr uint64_t kCancelTag = 2;
constexpr uint64_t kKindTag = 3;

// Linux 6.7, younger than the headers of Debian 12 (include/uapi/linux/io_uring.h).
constexpr uint32_t kGetsockopt = 2;  // SOCKET_URING_OP_GETSOCKOPT
constexpr std::array<uint32_t, 3> kKindOptions = {SO_DOMAIN, SO_TYPE, SO_PROTOCOL};

}  // namespace

Expected<std::unique_ptr<UringCalls>> UringCalls::Create([[maybe_unused]] bool one_thread) {
  std::unique_ptr<UringCalls> calls(new UringCalls);
  // Not IORING_SETUP_DEFER_TASKRUN: a connection over loopback is established while the call is
  // submitted, and its completion is to be there when io_uring_enter(2) returns.
  int result = -EINVAL;
#if defined(IORING_SETUP_SINGLE_ISSUER)  // Linux 6.0
  if (one_thread) {
    result = io_uring_queue_init(kEntries, &calls->ring_, IORING_SETUP_SINGLE_ISSUER);
  }
#endif
  if (result == -EINVAL) {
    result = io_uring_queue_init(kEntries, &calls->ring_, 0);
  }
  if (result != 0) {
    return ErrnoError(-result, "io_uring_setup");
  }
  calls->ready_ = true;
  return calls;
}

UringCalls::~UringCalls() {
  if (ready_) {
    io_uring_queue_exit(&ring_);
  }
}

int UringCalls::Run() {
  if (const int submitted = io_uring_submit(&ring_); submitted < 0) {
    return submitted;
  }
  io_uring_cqe* entry = nullptr;
  while (io_uring_peek_cqe(&ring_, &entry) == 0) {
    const bool of_call = entry->user_data == kCallTag;
    const int result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    if (of_call) {
      return result;
    }
  }
  io_uring_sqe* cancel = io_uring_get_sqe(&ring_);
  io_uring_prep_cancel64(cancel, kCallTag, 0);
  cancel->user_data = kCancelTag;
  // Both the call and its cancellation complete, in either order; neither can be left behind in the
  // ring, or a later call would take it for its own.
  int result = -ECANCELED;
  io_uring_submit(&ring_);
  for (int left = 2; left > 0;) {
    const int waited = io_uring_wait_cqe(&ring_, &entry);
    if (waited == -EINTR) {
      continue;
    }
    if (waited < 0) {
      return waited;
    }
    if (entry->user_data == kCallTag) {
      result = entry->res;
    }
    left -= entry->user_data == kKindTag ? 0 : 1;
    io_uring_cqe_seen(&ring_, entry);
  }
  return result;
}

int UringCalls::Connect(int socket_fd, const sockaddr* address, socklen_t length) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    return EBUSY;
  }
  io_uring_prep_connect(entry, socket_fd, address, length);
  entry->user_data = kCallTag;
  const int result = Run();
  // EINTR: the wait was already under way in a kernel worker when it was cancelled.
  return result == -ECANCELED || result == -EINTR ? EINPROGRESS : -result;
}

int UringCalls::Accept(int socket_fd, sockaddr* address, socklen_t* length, int flags) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    return -EBUSY;
  }
  io_uring_prep_accept(entry, socket_fd, address, length, flags);
  entry->user_data = kCallTag;
  const int result = Run();
  return result == -ECANCELED || result == -EINTR ? -EAGAIN : result;
}

std::optional<SocketKind> UringCalls::ReadKind(int socket_fd) {
  if (!reads_kinds_) {
    return std::nullopt;
  }
  std::array<io_uring_sqe*, kKindOptions.size()> entries{};
  for (size_t i = 0; i < entries.size(); ++i) {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      break;
    }
    io_uring_prep_rw(IORING_OP_URING_CMD, entry, socket_fd, nullptr, 0, 0);
    entry->cmd_op = kGetsockopt;
    entry->addr = SOL_SOCKET | uint64_t{kKindOptions[i]} << 32;    // `level` and `optname`
    entry->splice_fd_in = sizeof kind_values_[i];                  // `optlen`
    entry->addr3 = reinterpret_cast<uintptr_t>(&kind_values_[i]);  // `optval`
    entry->user_data = kKindTag;
    entries[i] = entry;
  }
  // An older kernel stops at each entry that it does not know.
  size_t submitted = 0;
  for (int taken = 1; taken > 0 && submitted < entries.size();) {
    taken = std::max(0, io_uring_submit(&ring_));
    submitted += static_cast<size_t>(taken);
  }
  // What is left is for the next call to submit: then it means nothing.
  for (size_t i = submitted; i < entries.size() && entries[i] != nullptr; ++i) {
    io_uring_prep_nop(entries[i]);
    entries[i]->user_data = kKindTag;
  }
  // They complete while they are submitted.
  bool all = submitted == entries.size();
  for (size_t left = submitted; left > 0;) {
    io_uring_cqe* entry = nullptr;
    const int waited = io_uring_wait_cqe(&ring_, &entry);
    if (waited == -EINTR) {
      continue;
    }
    if (waited < 0) {
      reads_kinds_ = false;
      return std::nullopt;
    }
    all = all && entry->res == sizeof(int);
    // An older kernel knows neither the request nor that sockets have any.
    reads_kinds_ = reads_kinds_ && entry->res != -EINVAL && entry->res != -EOPNOTSUPP;
    io_uring_cqe_seen(&ring_, entry);
    --left;
  }
  if (!all) {
    return std::nullopt;
  }
  return SocketKind{kind_values_[0], kind_values_[1], kind_values_[2]};
}

}  // namespace oakum::agent
