#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

namespace oakum {
namespace {

UniqueFd OpenNull() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesAtTheEnd) {
  int number = -1;
  {
    const UniqueFd fd = OpenNull();
    number = fd.get();
    EXPECT_TRUE(fd);
    EXPECT_TRUE(IsOpen(number));
  }
  EXPECT_FALSE(IsOpen(number));
}

TEST(UniqueFd, MovesWithoutLeaking) {
  UniqueFd a = OpenNull();
  UniqueFd b = OpenNull();
  const int a_number = a.get();
  const int b_number = b.get();
  b = std::move(a);
  EXPECT_EQ(b.get(), a_number);
  EXPECT_FALSE(IsOpen(b_number));
  UniqueFd& same = b;
  b = std::move(same);
  EXPECT_TRUE(IsOpen(a_number));
}

TEST(UniqueFd, ReleasesOwnership) {
  UniqueFd fd = OpenNull();
  const int number = fd.Release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(IsOpen(number));
  close(number);
}

TEST(UniqueFd, ResetKeepsErrno) {
  UniqueFd fd = OpenNull();
  errno = EAGAIN;
  fd.Reset();
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_FALSE(fd);
}

}  // namespace
}  // namespace oakum
