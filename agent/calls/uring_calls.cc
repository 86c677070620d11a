#include "agent/calls/uring_calls.h"

#include <cerrno>

namespace oakum::agent {

namespace {

constexpr unsigned kEntries = 4;
constexpr uint64_t kCallTag = 1;
constexpr uint64_t kCancelTag = 2;

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
  if (io_uring_peek_cqe(&ring_, &entry) == 0) {
    const int result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    return result;
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
    io_uring_cqe_seen(&ring_, entry);
    --left;
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

}  // namespace oakum::agent
