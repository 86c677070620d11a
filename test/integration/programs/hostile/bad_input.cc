// Calls with arguments that no honest program passes, for comparison with what the kernel says.
#include "bad_input.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <random>

namespace {

// Three pages of which the middle one can be used: what lies before or beyond it is a fault. Always
// at the same place, because what is built there holds pointers and is misread on purpose.
class Arena {
 public:
  Arena()
      : base_(static_cast<char*>(mmap(reinterpret_cast<void*>(0x100000000000),  // NOLINT: free
                                      3 * kPage, PROT_NONE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0))) {
    mprotect(base_ + kPage, kPage, PROT_READ | PROT_WRITE);
  }
  char* begin() const { return base_ + kPage; }
  char* end() const { return base_ + 2 * kPage; }
  void Clear() const { memset(begin(), 0, kPage); }

  static constexpr size_t kPage = 4096;

 private:
  char* base_;
};

class Caller {
 public:
  explicit Caller(unsigned seed) : random_(seed) {}

  void Call(int number) {
    arena_.Clear();
    used_ = 0;
    const int fd = MakeDescriptor();
    errno = 0;
    const char* name = "";
    long result = 0;
    switch (Below(8)) {
      case 0:
        name = "connect";
        result = syscall(SYS_connect, fd, Address(), Length());
        break;
      case 1:
        name = "bind";
        result = syscall(SYS_bind, fd, Address(), Length());
        break;
      case 2:
        name = "accept4";
        result = syscall(SYS_accept4, fd, Pointer(16), Pointer(4), Flags());
        break;
      case 3:
        name = "sendto";
        result = syscall(SYS_sendto, fd, Pointer(64), Size(), SendFlags(), Address(), Length());
        break;
      case 4:
      case 5:
        name = "sendmsg";
        result = syscall(SYS_sendmsg, fd, Message(), SendFlags());
        break;
      case 6:
        name = "sendmmsg";
        result = syscall(SYS_sendmmsg, fd, Messages(), VectorLength(), SendFlags());
        break;
      default:
        name = "setsockopt";
        result = SetOption(fd);
        break;
    }
    const int error = result < 0 ? errno : 0;
    printf("%d %s(%s) = %ld %d, %u\n", number, name, kind_, result, error, Written());
    if (fd >= 0 && fd != kClosed) {
      close(fd);
    }
    close(other_);
    other_ = -1;
  }

 private:
  static constexpr int kClosed = 999;

  unsigned Below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  template <typename T, size_t N>
  T Pick(const T (&values)[N]) {
    return values[Below(N)];
  }

  int MakeDescriptor() {
    std::array<int, 2> pair = {-1, -1};
    switch (Below(16)) {
      case 0:
      case 1:
      case 2:
        kind_ = "udp4";
        return socket(AF_INET, SOCK_DGRAM, 0);
      case 3:
      case 4:
        kind_ = "udp6";
        return socket(AF_INET6, SOCK_DGRAM, 0);
      case 5:
        kind_ = "tcp4";
        return socket(AF_INET, SOCK_STREAM, 0);
      case 6:
        kind_ = "tcp6";
        return socket(AF_INET6, SOCK_STREAM, 0);
      case 7:
        kind_ = "unix datagram";
        return socket(AF_UNIX, SOCK_DGRAM, 0);
      case 8:
        kind_ = "unix stream";
        return socket(AF_UNIX, SOCK_STREAM, 0);
      case 9:
      case 10: {
        const bool stream = Below(2) == 0;
        kind_ = stream ? "unix stream pair" : "unix datagram pair";
        (void)socketpair(AF_UNIX, stream ? SOCK_STREAM : SOCK_DGRAM, 0, pair.data());
        other_ = pair[1];
        return pair[0];
      }
      case 11:
        kind_ = "closed";
        return kClosed;
      case 12:
        kind_ = "no number";
        return Pick({-1, INT_MIN, INT_MAX, 1 << 20});
      case 13:
        kind_ = "pipe";
        (void)pipe(pair.data());
        other_ = pair[1];
        return pair[0];
      case 14:
        kind_ = "O_PATH";
        return open("/", O_PATH);
      default:
        kind_ = "directory";
        return open("/", O_RDONLY);
    }
  }

  // Somewhere in the arena with room for `size` bytes, or where less can be read, or nothing.
  char* Pointer(size_t size) {
    switch (Below(24)) {
      case 0:
        return nullptr;
      case 1:
        return reinterpret_cast<char*>(0x1000);  // NOLINT: nothing is mapped there
      case 2:
        return reinterpret_cast<char*>(~uintptr_t{0} - Below(64));  // NOLINT: the kernel's
      case 3:
        return arena_.end();
      case 4:
        return arena_.end() - Below(static_cast<unsigned>(size) + 1);
      default:
        break;
    }
    used_ += size + Below(9);
    if (used_ > Arena::kPage) {
      used_ = size;
    }
    return arena_.begin() + used_ - size;
  }

  bool IsWritable(const char* at, size_t size) const {
    return at >= arena_.begin() && at < arena_.end() &&
           static_cast<size_t>(arena_.end() - at) >= size;
  }
  void Put(char* at, const void* data, size_t size) const {
    if (at >= arena_.begin() && at < arena_.end()) {
      memcpy(at, data, std::min(size, static_cast<size_t>(arena_.end() - at)));
    }
  }

  char* Address() {
    char* at = Pointer(128);
    const auto port = htons(Pick<uint16_t>({0, 9, 9}));
    sockaddr_in in = {};
    sockaddr_in6 in6 = {};
    sockaddr_un un = {};
    switch (Below(8)) {
      case 0:
      case 1:
      case 2:
        in.sin_family = Pick<sa_family_t>({AF_INET, AF_INET, AF_UNSPEC, 99});
        in.sin_port = port;
        in.sin_addr.s_addr = htonl(Pick<uint32_t>({0x7f000001, 0x7f000001, 0}));
        Put(at, &in, sizeof in);
        break;
      case 3:
      case 4:
        in6.sin6_family = Pick<sa_family_t>({AF_INET6, AF_INET6, AF_UNSPEC});
        in6.sin6_port = port;
        in6.sin6_addr = Below(2) == 0 ? in6addr_loopback : in6addr_any;
        in6.sin6_scope_id = Below(3);
        Put(at, &in6, sizeof in6);
        break;
      default:
        un.sun_family = Pick<sa_family_t>({AF_UNIX, AF_UNIX, AF_NETLINK});
        strcpy(un.sun_path, Pick<const char*>({"", "/proc/nowhere", "relative/nothing", "/"}));
        if (Below(4) == 0) {
          memset(un.sun_path, 'x', sizeof un.sun_path);
          memcpy(un.sun_path, "/proc/nowhere/", 14);
        }
        Put(at, &un, sizeof un);
        break;
    }
    return at;
  }

  int Length() {
    return Pick({0,  1,  2,  3,  8,   15,  16,  16,  16,  17,  23, 24,      27,
                 28, 28, 28, 64, 109, 110, 110, 111, 128, 129, -1, INT_MIN, INT_MAX});
  }
  size_t Size() {
    return Pick<size_t>({0, 1, 8, 64, 64, 65, 4096, 65507, 65536, size_t{INT_MAX},
                         size_t{INT_MAX} + 1, ~size_t{0}, ~size_t{0} / 2});
  }
  int Flags() { return Pick<int>({0, SOCK_CLOEXEC, SOCK_NONBLOCK, 1, -1}); }
  // Nothing that would wait, or connect without a handshake.
  int SendFlags() {
    return MSG_DONTWAIT | MSG_NOSIGNAL |
           Pick<int>({0, 0, 0, MSG_OOB, MSG_DONTROUTE, MSG_EOR, MSG_CONFIRM, MSG_ERRQUEUE,
                      MSG_TRUNC, MSG_PROXY, MSG_WAITALL, INT_MIN, 0x08000000, 0x00100000,
                      0x00010000});
  }
  unsigned VectorLength() { return Pick({0U, 1U, 2U, 3U, 1024U, 1025U, UINT_MAX, 1U << 31}); }

  char* Pieces(size_t& count) {
    count = Pick<size_t>({0, 1, 1, 1, 2, 3, 1024, 1025, ~size_t{0}, size_t{1} << 32});
    char* at = Pointer(sizeof(iovec) * 3);
    const size_t filled = std::min<size_t>(count, 3);
    for (size_t i = 0; i < filled; ++i) {
      const iovec piece = {Pointer(8), Pick<size_t>({0, 1, 8, 8, 8, 4097, 70000, ~size_t{0},
                                                     ~size_t{0} / 2, size_t{1} << 32})};
      Put(at + i * sizeof piece, &piece, sizeof piece);
    }
    return at;
  }

  char* Control(size_t& length) {
    length = 0;
    if (Below(2) == 0) {
      return nullptr;
    }
    char* at = Pointer(64);
    cmsghdr header = {};
    header.cmsg_len = Pick<size_t>({0, 1, 15, 16, 17, 20, 28, 28, 48, 49, ~size_t{0}});
    header.cmsg_level = Pick<int>({SOL_SOCKET, SOL_SOCKET, int{IPPROTO_IP}, int{IPPROTO_IPV6}, 99});
    header.cmsg_type = Pick<int>({SCM_RIGHTS, SCM_RIGHTS, IP_TTL, IP_TOS, 99, -1});
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_CREDENTIALS) {
      // The one difference that is meant: nobody can name another process under a guard.
      header.cmsg_type = 99;
    }
    Put(at, &header, sizeof header);
    const int number = Pick({0, -1, kClosed, 7});
    Put(at + sizeof header, &number, sizeof number);
    length =
        Pick<size_t>({1, 15, 16, 24, 32, 48, 64, 64, 65536, 1 << 20, ~size_t{0}, size_t{1} << 31});
    return at;
  }

  msghdr Header() {
    msghdr message = {};
    message.msg_name = Below(3) == 0 ? nullptr : Address();
    message.msg_namelen = static_cast<socklen_t>(Length());
    message.msg_iov = reinterpret_cast<iovec*>(Pieces(message.msg_iovlen));
    message.msg_control = Control(message.msg_controllen);
    message.msg_flags = static_cast<int>(Below(3)) - 1;
    return message;
  }

  char* Message() {
    const msghdr message = Header();
    char* at = Pointer(sizeof message);
    Put(at, &message, sizeof message);
    return at;
  }

  char* Messages() {
    messages_ = Pointer(2 * sizeof(mmsghdr));
    for (size_t i = 0; i < 2; ++i) {
      mmsghdr message = {};
      message.msg_hdr = Header();
      message.msg_len = 4711;
      Put(messages_ + i * sizeof message, &message, sizeof message);
    }
    return messages_;
  }

  // What sendmmsg(2) has written.
  unsigned Written() {
    unsigned sum = 0;
    for (size_t i = 0; messages_ != nullptr && i < 2; ++i) {
      const char* at = messages_ + i * sizeof(mmsghdr) + offsetof(mmsghdr, msg_len);
      unsigned length = 0;
      if (IsWritable(at, sizeof length)) {
        memcpy(&length, at, sizeof length);
        sum = sum * 31 + length;
      }
    }
    messages_ = nullptr;
    return sum;
  }

  long SetOption(int fd) {
    const int level =
        Pick({SOL_SOCKET, int{IPPROTO_IP}, int{IPPROTO_IPV6}, int{IPPROTO_TCP}, 63, -1});
    const int name =
        Pick({SO_REUSEADDR, SO_SNDBUF, SO_LINGER, IP_TTL, IP_TOS, IPV6_V6ONLY, 63, -1});
    char* value = Pointer(16);
    const int zero = 0;
    Put(value, &zero, sizeof zero);
    return syscall(SYS_setsockopt, fd, level, name, value,
                   Pick({0, 1, 4, 4, 8, 16, 17, -1, INT_MIN}));
  }

  std::mt19937 random_;
  Arena arena_;
  size_t used_ = 0;
  const char* kind_ = "";
  int other_ = -1;
  char* messages_ = nullptr;
};

}  // namespace

int CallBadly(unsigned seed, int count) {
  signal(SIGPIPE, SIG_IGN);
  // Nothing can be made there: a bind that works would leave a file behind.
  if (chdir("/proc") != 0) {
    return 1;
  }
  Caller caller(seed);
  for (int i = 0; i < count; ++i) {
    caller.Call(i);
  }
  return 0;
}
