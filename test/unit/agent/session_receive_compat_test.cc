// Receives of 32-bit programs (int 0x80) on sockets that are carried: what they leave in memory is
// what the kernel leaves there.
#if defined(__x86_64__)

#include <linux/net.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "test/unit/agent/receive_testing.h"

namespace oakum::agent {
namespace {

// arch/x86/entry/syscalls/syscall_32.tbl
constexpr uint32_t kSocketcall = 102;
constexpr uint32_t kRecvmmsg = 337;
constexpr uint32_t kRecvfrom = 371;
constexpr uint32_t kRecvmsg = 372;
constexpr uint32_t kRecvmmsgTime64 = 417;

using Arguments32 = std::array<uint32_t, 6>;

int Int80(uint32_t number, const Arguments32& args) {
  long result = 0;
  // The sixth argument is in a register that the compiler may need itself; nobody here has six.
  asm volatile("int $0x80"
               : "=a"(result)
               : "a"(static_cast<long>(number)), "b"(args[0]), "c"(args[1]), "d"(args[2]),
                 "S"(args[3]), "D"(args[4])
               : "memory", "r8", "r9", "r10", "r11");
  return static_cast<int>(result);
}

// One page that a 32-bit pointer reaches, filled with a pattern before each call.
class Page {
 public:
  Page()
      : base_(static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0))) {}
  void Clear() { memset(base_, 0x5a, kSize); }
  [[nodiscard]] uint32_t At(uint32_t offset) const {
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(base_)) + offset;
  }
  template <typename T>
  void Put(uint32_t offset, const T& value) {
    memcpy(base_ + offset, &value, sizeof value);
  }
  void Show(int output_fd, uint32_t size) const {
    for (uint32_t i = 0; i < size; ++i) {
      dprintf(output_fd, "%02x", static_cast<unsigned char>(base_[i]));
    }
    dprintf(output_fd, "\n");
  }

 private:
  static constexpr size_t kSize = 4096;
  char* base_;
};

// struct compat_msghdr at `offset`, with two pieces, a name and room for control messages.
void PutMessage(Page& page, uint32_t offset, uint32_t parts, uint32_t control_room) {
  page.Put(parts, Arguments32{page.At(parts + 64), 5, page.At(parts + 96), 32, 0, 0});
  page.Put(offset, std::array<uint32_t, 7>{page.At(parts + 160), 28, page.At(parts), 2,
                                           page.At(parts + 200), control_room, 0});
}

int TryAll(int output_fd, Page& page, const Bound& own, const Bound& from) {
  const auto fd = static_cast<uint32_t>(own.fd.get());
  const int on = 1;
  setsockopt(own.fd.get(), IPPROTO_IP, IP_RECVTTL, &on, sizeof on);
  setsockopt(own.fd.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  const auto feed = [&](int count) {
    page.Clear();
    for (int i = 0; i < count; ++i) {
      (void)sendto(from.fd.get(), "0123456789abcdef", 16, 0,
                   reinterpret_cast<const sockaddr*>(&own.address), own.length);
    }
  };
  const auto show = [&](const char* what, int result) {
    dprintf(output_fd, "%s %d ", what, result);
    page.Show(output_fd, 1024);
    char ignored[4];
    while (recv(own.fd.get(), ignored, sizeof ignored, MSG_DONTWAIT) >= 0) {
    }
  };
  for (const uint32_t flags : {0U, uint32_t{MSG_PEEK}, uint32_t{MSG_TRUNC}}) {
    feed(1);
    page.Put(900, Arguments32{16});
    // The address of the length is the sixth argument: only socketcall takes it from memory.
    page.Put(920, Arguments32{fd, page.At(0), 9, flags, page.At(100), page.At(900)});
    show("socketcall recvfrom", Int80(kSocketcall, {SYS_RECVFROM, page.At(920)}));
    feed(1);
    show("recvfrom", Int80(kRecvfrom, {fd, page.At(0), 9, flags, 0}));
    for (const uint32_t room : {0U, 11U, 12U, 16U, 20U, 30U, 40U, 100U}) {
      feed(1);
      PutMessage(page, 0, 100, room);
      show("recvmsg", Int80(kRecvmsg, {fd, page.At(0), flags}));
    }
  }
  feed(1);
  PutMessage(page, 0, 100, 40);
  page.Put(920, Arguments32{fd, page.At(0), 0});
  show("socketcall recvmsg", Int80(kSocketcall, {SYS_RECVMSG, page.At(920)}));
  for (const uint32_t number : {kRecvmmsg, kRecvmmsgTime64}) {
    // In the first the time is two 32-bit fields, in the second two 64-bit ones: a valid time for
    // both only where the agent reads it as the kernel does.
    for (const int64_t seconds : {int64_t{0}, (int64_t{7} << 32) + 1}) {
      feed(2);
      PutMessage(page, 0, 100, 40);
      PutMessage(page, 32, 500, 40);
      page.Put(900, std::array<int64_t, 2>{seconds, 999'999'999});
      const int result =
          Int80(number, {fd, page.At(0), 2, MSG_DONTWAIT, seconds == 0 ? 0 : page.At(900)});
      page.Put(900, std::array<int64_t, 2>{});
      show("recvmmsg", result);
    }
  }
  return 0;
}

TEST(ReceiveCompatTest, IsTheSameAsNatively) {
  const Bound own = BindLoopback(AF_INET);
  const Bound from = BindLoopback(AF_INET);
  Page page;  // at the same address in both
  const auto body = [&](int output_fd) { return TryAll(output_fd, page, own, from); };
  std::string natively;
  {
    GuardedProcess process({}, body);
    process.Go();
    ASSERT_EQ(process.Wait(&natively), 0);
  }
  ASSERT_NE(natively.find("recvmsg 16 "), std::string::npos) << "no 32-bit calls here";
  Receiving guarded;
  guarded.Carry(own.fd.get());
  std::string carried;
  guarded.Stand(from.endpoint(), NextAddress(from.endpoint()));
  ASSERT_EQ(guarded.Run(body, &carried), 0);
  int translated = 0;
  carried = WithoutTranslation(std::move(carried), from.endpoint(), AF_INET, translated);
  EXPECT_GT(translated, 30);
  ASSERT_EQ(natively.size(), carried.size());
  const auto differs = std::ranges::mismatch(natively, carried).in1;
  if (differs != natively.end()) {
    const auto at = static_cast<size_t>(differs - natively.begin());
    const size_t line = natively.rfind('\n', at) + 1;
    ADD_FAILURE() << natively.substr(line, 30) << " differs at byte " << (at - line) / 2 << ": "
                  << natively.substr(at, 32) << ", carried " << carried.substr(at, 32);
  }
}

}  // namespace
}  // namespace oakum::agent

#endif
