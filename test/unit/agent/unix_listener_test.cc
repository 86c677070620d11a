// Whose a path is: UnixListener.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "agent/server/unix_socket.h"
#include "base/file.h"

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class UnixListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-unix-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/agent.sock";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  [[nodiscard]] sockaddr_un Address() const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path_.data(), path_.size());
    return address;
  }
  // Whether who connects to the path comes to that listener.
  [[nodiscard]] bool Accepts(const UnixListener& listener) const {
    const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = Address();
    return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
           Accept(listener.fd()).has_value();
  }

  std::string dir_;
  std::string path_;
};

TEST_F(UnixListenerTest, SocketIsPrivateWhateverTheUmask) {
  for (const mode_t mask : {0, 022, 077}) {
    const mode_t old = umask(mask);
    const auto listener = UnixListener::Create(path_);
    umask(old);
    ASSERT_TRUE(listener);
    struct stat status = {};
    ASSERT_EQ(stat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600U) << mask;
  }
}

TEST_F(UnixListenerTest, SecondAgentOnThePathIsRefused) {
  const auto first = UnixListener::Create(path_);
  ASSERT_TRUE(first);
  const auto second = UnixListener::Create(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().what, HasSubstr("another agent listens there"));
  EXPECT_TRUE(Accepts(*first)) << "the first one is still reached";
}

// A child that listens and ends, while another one that shares its descriptors holds them: to the
// kernel what an agent is of which it does not let go of a thread.
TEST_F(UnixListenerTest, TakesThePlaceOfAProcessThatHasEnded) {
  std::array<int, 2> ready = {};
  ASSERT_EQ(pipe(ready.data()), 0);
  const pid_t holder_parent = fork();
  ASSERT_GE(holder_parent, 0);
  if (holder_parent == 0) {
    auto theirs = UnixListener::Create(path_);
    const auto holder = static_cast<pid_t>(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
    if (holder == 0) {
      pause();
    }
    (void)!write(ready[1], &holder, sizeof holder);
    _exit(0);  // without the destructor, as if killed
  }
  pid_t holder = 0;
  ASSERT_EQ(read(ready[0], &holder, sizeof holder), static_cast<ssize_t>(sizeof holder));
  siginfo_t ended = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(holder_parent), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(UnixListener::Create(path_).error().code, EADDRINUSE)
      << "who has no reason to think so";
  {
    const auto ours =
        UnixListener::Create(path_, SOCK_STREAM, std::nullopt, std::chrono::seconds(30));
    EXPECT_TRUE(ours) << ours.error().what;
  }
  kill(holder, SIGKILL);
  waitpid(holder_parent, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST_F(UnixListenerTest, SecondAgentWaitsForOneThatEnds) {
  auto first = std::make_unique<UnixListener>(std::move(*UnixListener::Create(path_)));
  std::thread ends([&] {
    std::this_thread::sleep_for(milliseconds(50));
    first.reset();
  });
  const auto second =
      UnixListener::Create(path_, SOCK_STREAM, std::nullopt, std::chrono::seconds(30));
  ends.join();
  EXPECT_TRUE(second) << second.error().what;
}

TEST_F(UnixListenerTest, LivingStrangerIsRefusedAndADeadOneReplaced) {
  UniqueFd stranger(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = Address();
  ASSERT_TRUE(stranger);
  ASSERT_EQ(bind(stranger.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(stranger.get(), 1), 0);
  EXPECT_EQ(UnixListener::Create(path_).error().code, EADDRINUSE);
  stranger.Reset();
  {
    const auto ours = UnixListener::Create(path_);
    EXPECT_TRUE(ours) << ours.error().what;
  }
  EXPECT_FALSE(std::filesystem::exists(path_)) << "the path goes with its listener";
}

TEST_F(UnixListenerTest, PathThatIsNoSocketIsLeftAlone) {
  ASSERT_TRUE(ReplaceFile(path_, "precious"));
  EXPECT_EQ(UnixListener::Create(path_).error().code, EEXIST);
  EXPECT_EQ(ReadFile(path_, 100).value(), "precious");
  EXPECT_EQ(UnixListener::Create(dir_ + '/' + std::string(120, 'x')).error().code, ENAMETOOLONG);
}

}  // namespace
}  // namespace oakum::agent
