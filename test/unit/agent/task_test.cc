#include "agent/caller/task.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/unique_fd.h"

namespace oakum::agent {
namespace {

// A child that waits, with other ids where it may take them, and its end of a pipe.
class Child {
 public:
  Child() {
    std::array<int, 2> ready{};
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ready.data()), 0);
    EXPECT_EQ(pipe(ends.data()), 0);
    end_.Reset(ends[1]);
    const UniqueFd ready_fd(ready[0]);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[1]);
      (void)!setresgid(4321, 4322, 4323);
      (void)!setresuid(1234, 1235, 1236);
      char byte = 'r';
      (void)!write(ready[1], &byte, 1);
      (void)!read(ends[0], &byte, 1);
      _exit(0);
    }
    close(ready[1]);
    close(ends[0]);
    char byte = 0;
    EXPECT_EQ(read(ready_fd.get(), &byte, 1), 1);
  }
  ~Child() { End(); }
  void End() {
    end_.Reset();
    if (pid_ > 0) {
      EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
      pid_ = 0;
    }
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  UniqueFd end_;
};

TEST(DescriptorSourceTest, TellsTheRealIdsThatStatusShows) {
  Child child;
  DescriptorSource source;
  EXPECT_FALSE(source.IdsOf(child.pid())) << "nothing has been taken from it";
  UniqueFd fd;
  ASSERT_EQ(source.Get(child.pid(), STDIN_FILENO, fd), 0);
  const auto ids = source.IdsOf(child.pid());
  if (!ids) {
    GTEST_SKIP() << "the kernel does not tell (Linux 6.13)";
  }
  const auto status = ReadTaskStatus(child.pid());
  ASSERT_TRUE(status);
  EXPECT_EQ(ids->tgid, child.pid());
  EXPECT_EQ(ids->uid, status->ruid);
  EXPECT_EQ(ids->gid, status->rgid);
  if (geteuid() == 0) {
    EXPECT_EQ(ids->uid, 1234U);
    EXPECT_EQ(ids->gid, 4321U);
  }
}

TEST(DescriptorSourceTest, TellsNothingOfAThreadThatHasEnded) {
  Child child;
  const pid_t pid = child.pid();
  DescriptorSource source;
  UniqueFd fd;
  ASSERT_EQ(source.Get(pid, STDIN_FILENO, fd), 0);
  child.End();
  EXPECT_FALSE(source.IdsOf(pid));
}

}  // namespace
}  // namespace oakum::agent
