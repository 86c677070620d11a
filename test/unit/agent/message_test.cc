#include "agent/caller/message.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace oakum::agent {
namespace {

// Three pages of this process, the last one of which cannot be read.
class Pages {
 public:
  Pages()
      : base_(static_cast<char*>(
            mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    EXPECT_NE(base_, MAP_FAILED);
    EXPECT_EQ(mprotect(base_ + 2 * kPage, kPage, PROT_NONE), 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(7);
    memcpy(base_, &address, sizeof address);
    memcpy(base_ + kPage, "0123456789abcdef", 16);
    memcpy(base_ + kPage + 100, "payload", 7);
  }
  ~Pages() { munmap(base_, 3 * kPage); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  static uint64_t At(const char* where) { return reinterpret_cast<uintptr_t>(where); }
  [[nodiscard]] uint64_t name() const { return At(base_); }
  [[nodiscard]] uint64_t mark() const { return At(base_ + kPage); }
  [[nodiscard]] uint64_t payload() const { return At(base_ + kPage + 100); }
  [[nodiscard]] uint64_t unreadable() const { return At(base_ + 2 * kPage); }
  // The first half of 16 bytes can be read.
  [[nodiscard]] uint64_t half() const { return At(base_ + 2 * kPage - 8); }

 private:
  static constexpr size_t kPage = 4096;
  char* base_;
};

constexpr int32_t kLength = sizeof(sockaddr_in);

void ExpectName(int error, const SockaddrCopy& name) {
  EXPECT_EQ(error, 0);
  EXPECT_EQ(name.length, sizeof(sockaddr_in));
  EXPECT_EQ(ReadEndpoint(name).port, 7);
}

TEST(ReadSockaddrTest, ReadsAMarkAlong) {
  const Pages pages;
  SockaddrCopy name;
  ProgramMark mark = {.address = pages.mark()};
  ExpectName(ReadSockaddr(getpid(), pages.name(), kLength, name, mark), name);
  EXPECT_TRUE(mark.read);
  EXPECT_EQ(memcmp(mark.bytes.data(), "0123456789abcdef", 16), 0);
  ProgramMark none;
  ExpectName(ReadSockaddr(getpid(), pages.name(), kLength, name, none), name);
  EXPECT_FALSE(none.read);
}

TEST(ReadSockaddrTest, AMarkThatCannotBeReadTakesNothingAlong) {
  const Pages pages;
  for (const uint64_t address : {pages.unreadable(), pages.half(), uint64_t{1}, UINT64_MAX - 7}) {
    SockaddrCopy name;
    ProgramMark mark = {.address = address, .read = true};
    ExpectName(ReadSockaddr(getpid(), pages.name(), kLength, name, mark), name);
    EXPECT_FALSE(mark.read) << address;
    std::optional<std::vector<char>> bytes;
    mark.read = true;
    ExpectName(ReadSockaddr(getpid(), pages.name(), kLength, name, pages.payload(), 7, bytes, mark),
               name);
    EXPECT_EQ(bytes, std::vector<char>({'p', 'a', 'y', 'l', 'o', 'a', 'd'})) << address;
    EXPECT_FALSE(mark.read) << address;
  }
}

TEST(ReadSockaddrTest, TellsWhatCouldBeRead) {
  const Pages pages;
  SockaddrCopy name;
  ProgramMark mark = {.address = pages.mark()};
  std::optional<std::vector<char>> bytes;
  ExpectName(ReadSockaddr(getpid(), pages.name(), kLength, name, pages.payload(), 7, bytes, mark),
             name);
  EXPECT_TRUE(bytes && mark.read);
  // The mark is all there, where the payload would have been.
  ExpectName(ReadSockaddr(getpid(), pages.name(), kLength, name, pages.half(), 16, bytes, mark),
             name);
  EXPECT_FALSE(bytes || mark.read);
  ExpectName(
      ReadSockaddr(getpid(), pages.name(), kLength, name, pages.unreadable(), 0, bytes, mark),
      name);
  EXPECT_TRUE(bytes && bytes->empty() && mark.read);
}

TEST(ReadSockaddrTest, AnAddressThatCannotBeReadIsEFAULTWhateverElseCan) {
  const Pages pages;
  for (const uint64_t address : {pages.unreadable(), pages.half(), uint64_t{0}}) {
    SockaddrCopy name;
    ProgramMark mark = {.address = pages.mark(), .read = true};
    EXPECT_EQ(ReadSockaddr(getpid(), address, kLength, name, mark), EFAULT);
    EXPECT_EQ(name.length, 0U);
    EXPECT_FALSE(mark.read);
  }
  SockaddrCopy name;
  ProgramMark mark = {.address = pages.mark(), .read = true};
  EXPECT_EQ(ReadSockaddr(getpid(), pages.name(), -1, name, mark), EINVAL);
  EXPECT_EQ(ReadSockaddr(getpid(), pages.name(), sizeof(sockaddr_storage) + 1, name, mark), EINVAL);
  EXPECT_FALSE(mark.read);
}

}  // namespace
}  // namespace oakum::agent
