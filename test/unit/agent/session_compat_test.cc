// 32-bit system calls (int 0x80), directly and through socketcall(2).
#if defined(__x86_64__)

#include <linux/net.h>
#include <sys/mman.h>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

constexpr long kSocketcall = 102;  // arch/x86/entry/syscalls/syscall_32.tbl
constexpr long kConnect = 362;
constexpr long kSendmsg = 370;

long Int80(long number, uint32_t a, uint32_t b, uint32_t c = 0) {
  long result = 0;
  asm volatile("int $0x80"
               : "=a"(result)
               : "a"(number), "b"(a), "c"(b), "d"(c)
               : "memory", "r8", "r9", "r10", "r11");
  return static_cast<int32_t>(result);
}

// Memory that a 32-bit pointer can reach.
class LowMemory {
 public:
  LowMemory()
      : base_(static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0))) {}
  template <typename T>
  uint32_t Put(const T& value) {
    memcpy(base_ + used_, &value, sizeof value);
    const auto address = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(base_ + used_));
    used_ += (sizeof value + 15) & ~size_t{15};
    return address;
  }

 private:
  char* base_;
  size_t used_ = 0;
};

using Array = std::array<uint32_t, 6>;

// 0 or an errno value for each way to reach `port`, as digits of what was reached: 1 connect, 2
// socketcall connect, 4 socketcall sendto, 8 sendmsg.
int ReachAll(uint16_t tcp_port, uint16_t udp_port) {
  LowMemory memory;
  const uint32_t tcp_address = memory.Put(Loopback(tcp_port));
  const uint32_t udp_address = memory.Put(Loopback(udp_port));
  const uint32_t data = memory.Put(uint32_t{0x78787878});
  int reached = 0;
  const int direct = socket(AF_INET, SOCK_STREAM, 0);
  reached |= Int80(kConnect, static_cast<uint32_t>(direct), tcp_address, 16) == 0 ? 1 : 0;
  // The socket itself through socketcall as well.
  const auto made = static_cast<uint32_t>(
      Int80(kSocketcall, SYS_SOCKET, memory.Put(Array{AF_INET, SOCK_STREAM, 0})));
  reached |= Int80(kSocketcall, SYS_CONNECT, memory.Put(Array{made, tcp_address, 16})) == 0 ? 2 : 0;
  const auto udp = static_cast<uint32_t>(socket(AF_INET, SOCK_DGRAM, 0));
  reached |=
      Int80(kSocketcall, SYS_SENDTO, memory.Put(Array{udp, data, 4, 0, udp_address, 16})) == 4 ? 4
                                                                                               : 0;
  const uint32_t pieces = memory.Put(std::array<uint32_t, 2>{data, 4});
  const uint32_t message = memory.Put(std::array<uint32_t, 7>{udp_address, 16, pieces, 1, 0, 0, 0});
  reached |= Int80(kSendmsg, udp, message) == 4 ? 8 : 0;
  // Calls without a destination work whatever the policy.
  reached |= Int80(kSocketcall, SYS_GETSOCKNAME,
                   memory.Put(Array{made, memory.Put(Array{}), memory.Put(uint32_t{24})})) == 0
                 ? 16
                 : 0;
  return reached;
}

TEST(CompatSessionTest, ThirtyTwoBitCallsAreDecidedAndPerformed) {
  const Server tcp(SOCK_STREAM);
  const Server udp(SOCK_DGRAM);
  const auto body = [&](int) { return ReachAll(tcp.port(), udp.port()); };
  {
    GuardedProcess process({}, body);
    process.Go();
    ASSERT_EQ(process.Wait(), 31) << "32-bit calls do not work here even without a guard";
    ASSERT_TRUE(tcp.Reached());
    ASSERT_TRUE(udp.Reached());
    while (tcp.Reached() || udp.Reached()) {
    }
  }
  {
    Guarded guarded(Policies("enforce", R"("outgoing": {"default": "allow"})"));
    EXPECT_EQ(guarded.Run(body), 31);
    EXPECT_TRUE(tcp.Reached());
    EXPECT_TRUE(udp.Reached());
    while (tcp.Reached() || udp.Reached()) {
    }
  }
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "deny"})"));
  EXPECT_EQ(guarded.Run(body), 16);
  EXPECT_FALSE(tcp.Reached());
  EXPECT_FALSE(udp.Reached());
}

TEST(CompatSessionTest, SocketcallMakesNoForbiddenSocket) {
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "allow"})"));
  const int status = guarded.Run([](int) {
    LowMemory memory;
    int failures = 0;
    const auto expect = [&](Array arguments, int error) {
      failures += Int80(kSocketcall, SYS_SOCKET, memory.Put(arguments)) == -error ? 0 : 1;
    };
    expect({AF_PACKET, SOCK_RAW, 0}, EPERM);
    expect({AF_INET, SOCK_RAW, IPPROTO_ICMP}, EPERM);
    expect({AF_VSOCK, SOCK_STREAM, 0}, EAFNOSUPPORT);
    return failures;
  });
  EXPECT_EQ(status, 0);
}

TEST(CompatSessionTest, SocketcallSetsHarmlessOptionsOnly) {
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "deny"})"));
  const int status = guarded.Run([](int) {
    LowMemory memory;
    const auto fd = static_cast<uint32_t>(socket(AF_INET, SOCK_DGRAM, 0));
    const uint32_t route = memory.Put(std::array<unsigned char, 12>{131, 11, 4, 127, 0, 0, 2, 127});
    const uint32_t timeout = memory.Put(std::array<int32_t, 2>{1, 500'000});
    const auto set = [&](uint32_t level, uint32_t name, uint32_t value, uint32_t size) {
      return Int80(kSocketcall, SYS_SETSOCKOPT, memory.Put(Array{fd, level, name, value, size}));
    };
    int failures = 0;
    failures += set(IPPROTO_IP, IP_OPTIONS, route, 12) == -EPERM ? 0 : 1;
    failures += set(SOL_SOCKET, SO_RCVTIMEO, timeout, 8) == 0 ? 0 : 1;
    timeval value = {};
    socklen_t length = sizeof value;
    getsockopt(static_cast<int>(fd), SOL_SOCKET, SO_RCVTIMEO, &value, &length);
    failures += value.tv_sec == 1 && value.tv_usec == 500'000 ? 0 : 1;
    return failures;
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace oakum::agent

#endif  // __x86_64__
