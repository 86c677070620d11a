// What events say of the program that called, which is remembered from call to call.
#include <sys/auxv.h>
#include <sys/mman.h>

#include <array>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

const std::string kAllToLoopback =
    Policies("enforce", R"("log": "all", "outgoing": {"default": "deny", "allow": ["127.0.0.1"]})");
constexpr int kCalls = 8;  // so often that what a program is known by is looked for and found

bool Connects(int fd) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool Sends(int fd) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return sendto(fd, "datagram", 8, 0, reinterpret_cast<const sockaddr*>(&address),
                sizeof address) == 8;
}

TEST(SessionEventTest, ACallAfterAnExecIsTheNewProgramsAtOnce) {
  Guarded guarded(kAllToLoopback);
  const int status = guarded.Run([](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < kCalls; ++i) {
      if (!Connects(fd)) {
        return 1;
      }
    }
    // With these it asks nobody (nscd(8)) whose they are.
    std::array environment = {"HOME=/", "SHELL=/bin/bash", static_cast<const char*>(nullptr)};
    execle("/bin/bash", "bash", "-c", "echo > /dev/udp/127.0.0.1/9", nullptr, environment.data());
    return 2;
  });
  EXPECT_EQ(status, 0);
  const auto events = guarded.sink().events();
  ASSERT_EQ(events.size(), size_t{kCalls} + 1);
  const auto& before = events.front().process;
  const auto& after = events.back().process;
  ASSERT_TRUE(before && after);
  for (int i = 1; i < kCalls; ++i) {
    EXPECT_EQ(events[i].process->executable, before->executable);
    EXPECT_EQ(events[i].process->command_line, before->command_line);
  }
  EXPECT_NE(after->executable, before->executable);
  EXPECT_TRUE(after->executable.ends_with("bash")) << after->executable;
  EXPECT_EQ(after->command_line, "bash -c echo > /dev/udp/127.0.0.1/9");
}

int CallsWithoutMark(int connects, int sends) {
  constexpr uintptr_t kPage = 4096;
  void* const page = reinterpret_cast<void*>(getauxval(AT_RANDOM) / kPage * kPage);  // NOLINT
  if (mprotect(page, kPage, PROT_NONE) != 0) {
    return 2;
  }
  bool all = true;
  for (int i = 0; i < kCalls; ++i) {
    all = all && Connects(connects) && Sends(sends);
  }
  if (mprotect(page, kPage, PROT_READ | PROT_WRITE) != 0) {
    return 4;
  }
  return all ? 0 : 3;
}

// The mark is at the beginning of the stack, and who called this may be on the same page.
[[gnu::noinline]] int Far(int (*function)(int, int), int connects, int sends) {
  std::array<volatile char, size_t{16} * 1024> between;
  between.front() = 0;
  const int result = function(connects, sends);
  return result + between.front();
}

// With it goes what shows the agent that the program is the same one.
TEST(SessionEventTest, AProgramThatTakesItsMarkAwayCallsAsBefore) {
  Guarded guarded(kAllToLoopback);
  const int status = guarded.Run([](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const int sender = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < kCalls; ++i) {
      if (!Connects(fd) || !Sends(sender)) {
        return 1;
      }
    }
    return Far(CallsWithoutMark, fd, sender);
  });
  EXPECT_EQ(status, 0);
  const auto events = guarded.sink().events();
  ASSERT_EQ(events.size(), size_t{kCalls} * 4);
  for (const Event& event : events) {
    ASSERT_TRUE(event.process);
    EXPECT_EQ(event.process->executable, events.front().process->executable);
    EXPECT_EQ(event.process->name, events.front().process->name);
  }
}

}  // namespace
}  // namespace oakum::agent
