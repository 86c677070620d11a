#include "agent/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/file.h"

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr std::string_view kCompact =
    R"({"ociVersion":"1.0.2","fds":["seccompFd"],"pid":17,"metadata":"m","state":{"ociVersion":)"
    R"("1.0.2","id":"c1","status":"creating","pid":17,"bundle":"/b","annotations":{"a":"b"}}})";
constexpr std::string_view kPretty = R"({
    "ociVersion": "1.0",
    "fds": [
        "seccompFd"
    ],
    "pid": 0,
    "metadata": "with \" and } inside",
    "state": {
        "ociVersion": "1.0",
        "id": "c2",
        "status": "created",
        "pid": 18,
        "bundle": "/b"
    }
}
)";

class ListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-listen-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/run/agent.sock";
    diagnostics_fd_.Reset(
        open((dir_ + "/diagnostics").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    log_ = std::make_unique<Log>("test", LogLevel::kDebug, false, diagnostics_fd_.get());
    loop_ = EventLoop::Create().value();
    Remake();
  }
  void Remake() {
    listener_.reset();
    auto listener = Listener::Create(
        *loop_, path_,
        [this](const oci::ContainerProcessState& state, UniqueFd fd) -> Expected<void> {
          states_.push_back(state);
          fds_.push_back(std::move(fd));
          return answer_;
        },
        *log_);
    ASSERT_TRUE(listener) << listener.error().what;
    listener_ = std::move(*listener);
  }
  void TearDown() override {
    listener_.reset();
    std::filesystem::remove_all(dir_);
  }

  [[nodiscard]] std::string Diagnostics() const {
    return ReadFile(dir_ + "/diagnostics", 1 << 20).value();
  }
  [[nodiscard]] UniqueFd Connect() const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path_.data(), path_.size());
    if (!fd ||
        connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0) {
      return UniqueFd();
    }
    return fd;
  }
  // Sends `text` with `count` descriptors of eventfd(2).
  static void Send(const UniqueFd& to, std::string_view text, size_t count = 0) {
    std::vector<UniqueFd> fds;
    std::vector<char> control(CMSG_SPACE(sizeof(int) * count));
    struct iovec data = {.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
    struct msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (count != 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      struct cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int) * count);
      for (size_t i = 0; i < count; ++i) {
        fds.emplace_back(eventfd(0, EFD_CLOEXEC));
        const int fd = fds.back().get();
        memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(fd));
      }
    }
    ASSERT_TRUE(to);
    ASSERT_EQ(sendmsg(to.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // Runs the loop until `condition` holds, for at most five seconds.
  bool RunUntil(const std::function<bool()>& condition) {
    for (int i = 0; i < 500 && !condition(); ++i) {
      EXPECT_TRUE(loop_->RunOnce(milliseconds(10)));
    }
    return condition();
  }
  void Settle() {
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(loop_->RunOnce(milliseconds(1)));
    }
  }
  // Whether the agent closed the connection.
  static bool Closed(const UniqueFd& fd) {
    char byte = 0;
    const ssize_t got = recv(fd.get(), &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  bool RunUntilFailed(uint64_t count) {
    return RunUntil([&] { return listener_->Counts().failed == count; });
  }
  static size_t OpenDescriptors() {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
      ++count;
    }
    return count;
  }

  std::string dir_;
  std::string path_;
  UniqueFd diagnostics_fd_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Listener> listener_;
  std::vector<oci::ContainerProcessState> states_;
  std::vector<UniqueFd> fds_;
  Expected<void> answer_;
};

TEST_F(ListenerTest, TakesTheCompactForm) {
  const UniqueFd client = Connect();
  Send(client, kCompact, 1);
  ASSERT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  EXPECT_EQ(states_[0].id, "c1");
  EXPECT_EQ(states_[0].annotations.at("a"), "b");
  EXPECT_TRUE(fds_[0]);
  EXPECT_NE(fcntl(fds_[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_FALSE(Closed(client)) << "a runtime may keep the connection open";
}

TEST_F(ListenerTest, TakesThePrettyFormByteByByte) {
  const UniqueFd client = Connect();
  Send(client, kPretty.substr(0, 1), 1);
  for (size_t i = 1; i < kPretty.size(); ++i) {
    Send(client, kPretty.substr(i, 1));
    if (i % 7 == 0) {
      Settle();
    }
  }
  ASSERT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  EXPECT_EQ(states_[0].id, "c2");
  EXPECT_EQ(states_[0].metadata, "with \" and } inside");
  Settle();
  EXPECT_FALSE(Closed(client)) << "the last newline is nothing to complain about";
  EXPECT_EQ(listener_->Counts().failed, 0);
}

TEST_F(ListenerTest, TakesLargeAnnotations) {
  std::string text(kCompact);
  text.replace(text.find(R"("a":"b")"), 7, R"("a":")" + std::string(300'000, 'x') + '"');
  const UniqueFd client = Connect();
  std::thread sender([&] {
    Send(client, std::string_view(text).substr(0, 10), 1);
    for (size_t at = 10; at < text.size(); at += 50'000) {
      Send(client, std::string_view(text).substr(at, 50'000));
    }
  });
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  sender.join();
  ASSERT_EQ(states_.size(), 1);
  EXPECT_EQ(states_[0].annotations.at("a").size(), 300'000);
}

TEST_F(ListenerTest, RefusesAnEndlessState) {
  const UniqueFd client = Connect();
  std::thread sender([&] {
    const std::string piece = "{\"a\":\"" + std::string(kMaxStateBytes, 'x');
    size_t sent = 0;
    ssize_t put = 0;
    while (sent < piece.size() &&
           (put = send(client.get(), piece.data() + sent, piece.size() - sent, MSG_NOSIGNAL)) > 0) {
      sent += static_cast<size_t>(put);
    }
  });
  EXPECT_TRUE(RunUntilFailed(1));
  sender.join();
  EXPECT_TRUE(states_.empty());
}

TEST_F(ListenerTest, PicksTheDescriptorByItsName) {
  std::string text(kCompact);
  text.replace(text.find(R"(["seccompFd"])"), 13, R"(["other","seccompFd"])");
  const UniqueFd client = Connect();
  Send(client, text, 2);
  ASSERT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  EXPECT_TRUE(fds_[0]);
}

TEST_F(ListenerTest, WrongDescriptorsAreRefusedAndNoneIsKept) {
  const size_t before = OpenDescriptors();
  const auto refuse = [&](std::string_view text, size_t count, const char* why) {
    const auto failed = listener_->Counts().failed;
    const UniqueFd client = Connect();
    Send(client, text, count);
    EXPECT_TRUE(RunUntilFailed(failed + 1)) << why;
    EXPECT_TRUE(Closed(client)) << why;
  };
  refuse(kCompact, 0, "no descriptor");
  refuse(kCompact, 2, "more than named");
  std::string text(kCompact);
  text.replace(text.find("seccompFd"), 9, "seccompXX");
  refuse(text, 1, "another name");
  std::string twice(kCompact);
  twice.replace(twice.find(R"(["seccompFd"])"), 13, R"(["seccompFd","seccompFd"])");
  refuse(twice, 2, "twice the name");
  EXPECT_TRUE(states_.empty());
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ListenerTest, CutOffDescriptorsAreRefusedAndNoneIsKept) {
  const size_t before = OpenDescriptors();
  {
    const UniqueFd client = Connect();
    Send(client, kCompact, kMaxDescriptorsPerMessage + 10);
    EXPECT_TRUE(RunUntilFailed(1));
    EXPECT_TRUE(Closed(client));
  }
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_THAT(Diagnostics(), HasSubstr("descriptors were cut off"));
}

TEST_F(ListenerTest, DescriptorsInManyMessagesAreBounded) {
  const size_t before = OpenDescriptors();
  {
    const UniqueFd client = Connect();
    Send(client, "{", 10);
    Send(client, " ", 10);
    EXPECT_TRUE(RunUntilFailed(1));
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ListenerTest, GarbageEndsItsConnectionOnly) {
  const UniqueFd good = Connect();
  Send(good, kCompact.substr(0, 20), 1);
  uint64_t failed = 0;
  for (const std::string_view text :
       {std::string_view("GET / HTTP/1.1\r\n\r\n"), std::string_view("\0\0\0\0", 4),
        std::string_view("[]"), std::string_view("{}"), std::string_view("{\"a\":\x01}"),
        std::string_view(R"({"ociVersion":"1","fds":5,"pid":1,"state":{"id":"x"}})"),
        std::string_view("{\"a\n\x1b[2J\":}")}) {
    const UniqueFd client = Connect();
    Send(client, text, 1);
    EXPECT_TRUE(RunUntilFailed(++failed)) << text;
    EXPECT_TRUE(Closed(client)) << text;
  }
  EXPECT_EQ(Diagnostics().find('\x1b'), std::string::npos);
  Send(good, kCompact.substr(20));
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 1; }));
}

TEST_F(ListenerTest, NothingAtAllAndAHalfAreSaid) {
  {
    const UniqueFd client = Connect();
  }
  EXPECT_TRUE(RunUntil(
      [&] { return Diagnostics().find("closed with nothing sent") != std::string::npos; }));
  EXPECT_EQ(listener_->Counts().failed, 0);
  {
    const UniqueFd client = Connect();
    Send(client, kCompact.substr(0, 50), 1);
  }
  EXPECT_TRUE(RunUntilFailed(1));
  EXPECT_THAT(Diagnostics(), HasSubstr("in the middle (after 50 bytes and 1 descriptors)"));
}

TEST_F(ListenerTest, HalfOpenConnectionsHoldNobodyUp) {
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 100; ++i) {
    idle.push_back(Connect());
    ASSERT_TRUE(idle.back());
    if (i % 2 == 0) {
      Send(idle.back(), "{\"ociVersion\":", 1);
    }
  }
  const UniqueFd client = Connect();
  Send(client, kCompact, 1);
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().connections == 101; }));
  // crun says nothing from `create` to `start`.
  Send(idle[1], kPretty, 1);
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 2; }));
  idle.clear();
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().connections == 1; }));
}

// The limit of descriptors is lowered for a listener that is made with it.
TEST_F(ListenerTest, OneProcessDoesNotKeepOthersOut) {
  struct rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  struct rlimit low = old;
  low.rlim_cur = 200;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  Remake();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 200; ++i) {
    idle.push_back(Connect());
    ASSERT_TRUE(idle.back());
    if (i % 2 == 1) {
      Send(idle.back(), "{\"ociVersion\":", 1);
    }
  }
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().refused == 150; }));
  EXPECT_EQ(listener_->Counts().connections, 50);
  const pid_t child = fork();
  if (child == 0) {
    const UniqueFd client = Connect();
    Send(client, kCompact, 1);
    _exit(0);
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  EXPECT_EQ(listener_->Counts().evicted, 1);
  EXPECT_TRUE(Closed(idle[0]));
  EXPECT_THAT(Diagnostics(), HasSubstr(fmt::format("process {} (user", getpid())));
  const std::string said = Diagnostics();
  EXPECT_LT(std::ranges::count(said, '\n'), 50) << "a flood is not logged line by line";
}

TEST_F(ListenerTest, StatesThatAreNotCompleteAreBoundedTogether) {
  std::vector<UniqueFd> clients;
  const std::string most(kMaxStateBytes - 100, ' ');
  const std::string piece = "{\"a\":\"" + most.substr(0, 40'000);
  size_t bytes = 0;
  for (size_t i = 0; i < 64; ++i) {
    clients.push_back(Connect());
    for (size_t part = 0; part < 20; ++part) {
      Send(clients.back(), part == 0 ? piece : std::string(40'000, 'x'));
      bytes += 40'000;
      EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
    }
  }
  ASSERT_GT(bytes, kMaxPendingStateBytes);
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().failed > 0; }));
  EXPECT_LT(listener_->Counts().failed, 40);
  EXPECT_THAT(Diagnostics(), HasSubstr("too long together"));
  // Closed ones are no longer counted.
  clients.clear();
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().connections == 0; }));
  const UniqueFd client = Connect();
  Send(client, kCompact, 1);
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 1; }));
}

TEST_F(ListenerTest, DescriptorsOfAllAreBounded) {
  const size_t before = OpenDescriptors();
  {
    std::vector<UniqueFd> clients;
    for (size_t i = 0; i < kMaxPendingDescriptors / 10 + 10; ++i) {
      clients.push_back(Connect());
      Send(clients.back(), "{", 10);
      Settle();
    }
    EXPECT_TRUE(RunUntil([&] { return listener_->Counts().failed == 10; }));
    EXPECT_LE(OpenDescriptors(), before + 2 * clients.size() + kMaxPendingDescriptors);
  }
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().connections == 0; }));
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ListenerTest, IdsOfAnyBytesAreEscapedAndBounded) {
  const auto with_id = [](std::string_view id) {
    std::string text(kCompact);
    return text.replace(text.find("\"c1\""), 4, fmt::format("\"{}\"", id));
  };
  answer_ = MakeError(EINVAL, "no");
  const UniqueFd odd = Connect();
  Send(odd, with_id(R"(\u0000\u001b[2J\n../..//\"%s\u009b)"), 1);
  ASSERT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  EXPECT_EQ(states_[0].id, std::string_view("\0\x1b[2J\n../..//\"%s\xc2\x9b", 18));
  EXPECT_THAT(Diagnostics(), HasSubstr(R"(container \x00\x1b[2J\n../..//\"%s\xc2\x9b: no)"));
  size_t ended = 1;
  for (const size_t size : {size_t{255}, size_t{256}, size_t{900'000}}) {
    const UniqueFd client = Connect();
    const std::string text = with_id(std::string(size, 'i'));
    ++ended;
    std::thread sender([&] { Send(client, text, 1); });
    EXPECT_TRUE(RunUntil([&] { return states_.size() + listener_->Counts().failed == ended; }));
    sender.join();
    EXPECT_EQ(Closed(client), size > oci::kMaxContainerId) << size;
  }
  EXPECT_EQ(states_.size(), 2);
  EXPECT_LT(Diagnostics().size(), 4'000);
}

TEST_F(ListenerTest, SecondStateOnAConnectionIsRefused) {
  const UniqueFd client = Connect();
  Send(client, kCompact, 1);
  ASSERT_TRUE(RunUntil([&] { return states_.size() == 1; }));
  Send(client, kCompact, 1);
  EXPECT_TRUE(RunUntil([&] { return Closed(client); }));
  EXPECT_EQ(states_.size(), 1);
}

TEST_F(ListenerTest, FullDescriptorTableIsSurvived) {
  EventLoop* const loop = loop_.get();
  struct rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const UniqueFd first = Connect();
  const UniqueFd second = Connect();
  struct rlimit low = old;
  low.rlim_cur = static_cast<rlim_t>(UniqueFd(eventfd(0, EFD_CLOEXEC)).get());  // the next one
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  // UBSan looks into memory through a pipe: no call on a polymorphic object until there is room.
  const auto ran = loop->RunOnce(milliseconds(10));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_TRUE(ran);
  EXPECT_EQ(listener_->Counts().accepted, 0);
  EXPECT_THAT(Diagnostics(), HasSubstr("Too many open files"));
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().accepted == 2; })) << "a second later";
}

TEST_F(ListenerTest, OtherUsersAreRefused) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "only root can become somebody else";
  }
  ASSERT_EQ(chmod(dir_.c_str(), 0755), 0);
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setuid(65'534) != 0) {
      _exit(2);
    }
    const UniqueFd fd = Connect();
    _exit(fd ? 0 : 3);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(RunUntil([&] { return listener_->Counts().refused == 1; }));
  EXPECT_THAT(Diagnostics(), HasSubstr("user 65534"));
}

TEST_F(ListenerTest, NoRoomForADescriptorLosesNone) {
  EventLoop* const loop = loop_.get();
  const UniqueFd runtime = Connect();
  ASSERT_TRUE(RunUntil([&] { return listener_->Counts().accepted == 1; }));
  Send(runtime, kCompact, 1);
  struct rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  struct rlimit low = old;
  low.rlim_cur = static_cast<rlim_t>(UniqueFd(eventfd(0, EFD_CLOEXEC)).get());  // the next one
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const auto ran = loop->RunOnce(milliseconds(10));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_TRUE(ran);
  EXPECT_EQ(states_.size(), 0);
  EXPECT_TRUE(RunUntil([&] { return states_.size() == 1; })) << "once there is room";
}

}  // namespace
}  // namespace oakum::agent
