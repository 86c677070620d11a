// Calls that signals interrupt between the act and the answer: what the repeated call gets is what
// the first one would have got.
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

constexpr int kPeers = 3000;
constexpr uint16_t kPattern = 0x5a5a;

// A process beside the calling one, which is ended with it. Processes and not threads: the guarded
// one was forked by a program that has threads, and ThreadSanitizer does not like new ones there.
class Beside {
 public:
  template <typename Work>
  explicit Beside(const Work& work) : child_(fork()) {
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
      work();
      _exit(0);
    }
  }
  ~Beside() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;

 private:
  const pid_t child_;
};

// Sends a process a signal that restarts calls, every few microseconds.
void Storm(pid_t target) {
  while (kill(target, SIGURG) == 0) {
    usleep(20);
  }
}

void ConnectAll(const sockaddr_in& address) {
  for (int i = 0; i < kPeers; ++i) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    if (!fd ||
        connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return;
    }
    char end = 0;
    (void)!read(fd.get(), &end, sizeof end);  // until it has been looked at
  }
}

// Accepts kPeers connections under a storm of signals. How many of them came with the address and
// length that their peer has, and left what is behind a short buffer alone.
int AcceptUnderSignals(int flags) {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | flags, 0));
  sockaddr_in own = Loopback(0);
  socklen_t length = sizeof own;
  if (!listener || bind(listener.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) != 0 ||
      listen(listener.get(), 512) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0) {
    return -1;
  }
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  sigaction(SIGURG, &action, nullptr);
  const Beside peers([&own] { ConnectAll(own); });
  const Beside storm([self = getpid()] { Storm(self); });
  int right = 0;
  for (int taken = 0; taken < kPeers; ++taken) {
    // Every other time there is room for the family and the port only.
    const socklen_t room = taken % 2 == 0 ? sizeof(sockaddr_in) : 4;
    std::array<uint16_t, sizeof(sockaddr_in) / sizeof(uint16_t)> got;
    UniqueFd accepted;
    while (!accepted) {
      got.fill(kPattern);
      length = room;
      accepted.Reset(
          accept4(listener.get(), reinterpret_cast<sockaddr*>(got.data()), &length, SOCK_CLOEXEC));
      if (!accepted && errno != EAGAIN) {
        return -errno;
      }
    }
    sockaddr_in peer = {};
    socklen_t size = sizeof peer;
    getpeername(accepted.get(), reinterpret_cast<sockaddr*>(&peer), &size);
    std::array<uint16_t, got.size()> want;
    want.fill(kPattern);
    memcpy(want.data(), &peer, room);
    right += length == sizeof peer && got == want ? 1 : 0;
  }
  return right;
}

std::string DecidesPeers() {
  return Policies("enforce", R"("outgoing": {"default": "allow"}, "dns": "allow",
      "incoming": {"default": "deny", "allow": ["*", "* from *"]})");
}

TEST(ReplaySessionTest, AnAcceptThatIsMadeAgainSaysWhoseItIs) {
  for (const int flags : {0, int{SOCK_NONBLOCK}}) {
    Guarded guarded(DecidesPeers());
    std::string output;
    const int status = guarded.Run(
        [flags](int output_fd) {
          const int right = AcceptUnderSignals(flags);
          return write(output_fd, &right, sizeof right) == sizeof right ? 0 : 1;
        },
        &output);
    EXPECT_EQ(status, 0);
    int right = 0;
    ASSERT_EQ(output.size(), sizeof right);
    memcpy(&right, output.data(), sizeof right);
    EXPECT_EQ(right, kPeers) << "flags " << flags;
  }
}

}  // namespace
}  // namespace oakum::agent
