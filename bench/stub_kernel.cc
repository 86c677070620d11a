#include "bench/stub_kernel.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <string>
#include <string_view>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

namespace oakum::bench {

namespace {

#if defined(__x86_64__)
constexpr uint32_t kArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArch = AUDIT_ARCH_AARCH64;
#endif

struct Stub {
  StubCalls calls;
  int listener_fd = -1;
  UniqueFd writer;  // closed, it makes the listener hang up
  pid_t tid = 0;
  uint64_t delivered = 0;
  std::atomic<uint64_t> answered{0};
  std::atomic<uint64_t> failed{0};
};

// The C library's functions have no place for what belongs to one object.
Stub& TheStub() {
  static Stub stub;
  return stub;
}

int Receive(Stub& stub, seccomp_notif* out) {
  if (stub.delivered == stub.calls.calls) {
    stub.writer.Reset();
    errno = ENOENT;
    return -1;
  }
  ++stub.delivered;
  out->id = stub.delivered;
  out->pid = static_cast<uint32_t>(stub.tid);
  out->data.nr = SYS_connect;
  out->data.arch = kArch;
  out->data.args[0] = static_cast<uint64_t>(stub.calls.socket_fd);
  out->data.args[1] = reinterpret_cast<uint64_t>(stub.calls.address);
  out->data.args[2] = stub.calls.length;
  return 0;
}

int Send(Stub& stub, const seccomp_notif_resp* response) {
  ++(response->error == 0 && response->val == 0 && response->flags == 0 ? stub.answered
                                                                        : stub.failed);
  return 0;
}

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

UniqueFd MakeStubListener(const StubCalls& calls) {
  Stub& stub = TheStub();
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return {};
  }
  stub.calls = calls;
  stub.listener_fd = ends[0];
  stub.writer.Reset(ends[1]);
  stub.tid = gettid();
  return UniqueFd(ends[0]);
}

uint64_t StubAnswered() { return TheStub().answered; }
uint64_t StubFailed() { return TheStub().failed; }

}  // namespace oakum::bench

extern "C" {

int ioctl(int fd, unsigned long request, ...) {  // NOLINT: the C library's name
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  auto& stub = oakum::bench::TheStub();
  if (fd == stub.listener_fd) {
    switch (request) {
      case SECCOMP_IOCTL_NOTIF_RECV:
        return oakum::bench::Receive(stub, static_cast<seccomp_notif*>(argument));
      case SECCOMP_IOCTL_NOTIF_SEND:
        return oakum::bench::Send(stub, static_cast<const seccomp_notif_resp*>(argument));
      case SECCOMP_IOCTL_NOTIF_ID_VALID:
        if (*static_cast<const uint64_t*>(argument) == 0) {
          errno = ENOENT;
          return -1;
        }
        return 0;
      case SECCOMP_IOCTL_NOTIF_SET_FLAGS:
        return 0;
      default:
        break;
    }
  }
  static auto* const real = oakum::bench::Real<int(int, unsigned long, ...)>("ioctl");
  return real(fd, request, argument);
}

ssize_t readlink(const char* path, char* buffer, size_t size) noexcept {  // NOLINT
  auto& stub = oakum::bench::TheStub();
  if (stub.listener_fd >= 0 && path == "/proc/self/fd/" + std::to_string(stub.listener_fd)) {
    constexpr std::string_view kName = "anon_inode:seccomp notify";
    const size_t length = std::min(size, kName.size());
    memcpy(buffer, kName.data(), length);
    return static_cast<ssize_t>(length);
  }
  static auto* const real = oakum::bench::Real<ssize_t(const char*, char*, size_t)>("readlink");
  return real(path, buffer, size);
}

long syscall(long number, ...) noexcept {  // NOLINT
  va_list list;
  va_start(list, number);
  std::array<long, 6> args{};
  for (long& arg : args) {
    arg = va_arg(list, long);
  }
  va_end(list);
  switch (number) {
    case SYS_seccomp:
      *reinterpret_cast<seccomp_notif_sizes*>(args[2]) = {
          sizeof(seccomp_notif), sizeof(seccomp_notif_resp), sizeof(seccomp_data)};
      return 0;
    case SYS_pidfd_open:  // of this process, as all that are asked for
      return open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    case SYS_pidfd_getfd:
      return fcntl(static_cast<int>(args[1]), F_DUPFD_CLOEXEC, 0);
    default:
      break;
  }
  static auto* const real = oakum::bench::Real<long(long, ...)>("syscall");
  return real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

}  // extern "C"
