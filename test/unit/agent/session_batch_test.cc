// sendmmsg(2): what needs nothing but to be sent is sent together.
#include <sys/syscall.h>

#include <array>
#include <atomic>

#include "test/unit/agent/guarded_session.h"

namespace {

// Of this process, which is the agent's: a guarded child counts its own.
std::atomic<int> batches{0};
std::atomic<unsigned> entries{0};

}  // namespace

// In the place of the C library's.
extern "C" int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  batches.fetch_add(1);
  entries.fetch_add(count);
  return static_cast<int>(syscall(SYS_sendmmsg, fd, messages, count, flags));
}

namespace oakum::agent {
namespace {

constexpr uint32_t kEntries = 100;

// 0 when all were sent.
int SendAll(uint16_t port) {
  std::array<uint32_t, kEntries> numbers = {};
  std::array<iovec, kEntries> pieces = {};
  std::array<mmsghdr, kEntries> messages = {};
  sockaddr_in address = Loopback(port);
  for (uint32_t i = 0; i < kEntries; ++i) {
    numbers[i] = i;
    pieces[i] = {&numbers[i], sizeof numbers[i]};
    messages[i].msg_hdr.msg_name = &address;
    messages[i].msg_hdr.msg_namelen = sizeof address;
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (sendmmsg(fd, messages.data(), kEntries, 0) != static_cast<int>(kEntries)) {
    return 1;
  }
  return std::ranges::all_of(messages,
                             [](const mmsghdr& one) { return one.msg_len == sizeof(uint32_t); })
             ? 0
             : 2;
}

TEST(SendBatchTest, OneCallIsSentInAsFewAsItFitsIn) {
  const Server server(SOCK_DGRAM);
  Guarded guarded(
      Policies("enforce", R"("outgoing": {"default": "deny", "allow": ["127.0.0.1"]})"));
  batches.store(0);
  entries.store(0);
  EXPECT_EQ(guarded.Run([&](int) { return SendAll(server.port()); }), 0);
  EXPECT_EQ(batches.load(), 2);  // SendBatch::kMostEntries is 64
  EXPECT_EQ(entries.load(), kEntries);
  EXPECT_EQ(guarded.manager().Totals().calls, 1U);
  EXPECT_EQ(guarded.manager().Totals().allowed, kEntries);
  for (uint32_t i = 0; i < kEntries; ++i) {
    uint32_t number = kEntries;
    ASSERT_EQ(recv(server.fd(), &number, sizeof number, MSG_DONTWAIT), ssize_t{sizeof number});
    EXPECT_EQ(number, i);
  }
}

}  // namespace
}  // namespace oakum::agent
