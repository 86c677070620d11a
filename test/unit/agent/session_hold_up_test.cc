// Containers that hold up whoever touches what is theirs: others of the same agent do not notice.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <future>
#include <thread>

#include "test/unit/agent/absent_memory.h"
#include "test/unit/agent/guarded_session.h"
#include "test/unit/agent/proxy/socks_server.h"

namespace oakum::agent {
namespace {

constexpr int kNoFileServer = 77;
constexpr unsigned kPatienceSeconds = 40;  // what is held up is so for ever
constexpr uint32_t kHeld = 0xc0000201;     // 192.0.2.1 (RFC 5737): where the proxy takes its time
constexpr uint32_t kOther = 0xc0000207;    // 192.0.2.7

std::string Policy(uint16_t port) {
  return fmt::format(
      R"({{"version": 1,
           "proxies": {{"x": {{"url": "socks5h://127.0.0.1:{}"}}}},
           "policies": {{"p": {{"mode": "enforce", "proxy": "x",
                               "outgoing": {{"default": "redirect"}}}}}},
           "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      port);
}

int Connect(int fd, uint32_t ip) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(80);
  address.sin_addr.s_addr = htonl(ip);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

int State(int fd) {
  tcp_info info = {};
  socklen_t length = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_state : -1;
}

// A proxy that answers for kHeld when it is told to, with `held_code`, and for others after a
// moment: long enough that the session's own thread does not wait for it.
class TwoSpeedProxy {
 public:
  explicit TwoSpeedProxy(int held_code)
      : server_(
            [this, held_code](const std::string& target) {
              if (target.starts_with("192.0.2.1:")) {
                gone_.wait();  // more than one may ask, as after a time limit
                return held_code;
              }
              usleep(20'000);
              return 0;
            },
            Echo) {}
  ~TwoSpeedProxy() { Go(); }
  TwoSpeedProxy(const TwoSpeedProxy&) = delete;
  TwoSpeedProxy& operator=(const TwoSpeedProxy&) = delete;

  void Go() {
    if (gone_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      go_.set_value();
    }
  }
  [[nodiscard]] uint16_t port() const { return server_.port(); }

 private:
  std::promise<void> go_;
  const std::shared_future<void> gone_ = go_.get_future().share();
  SocksServer server_;
};

// The container that holds up; it says when.
class HoldUpTest : public testing::Test {
 protected:
  HoldUpTest() {
    EXPECT_EQ(pipe2(ready_, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(go_, O_CLOEXEC), 0);
  }
  ~HoldUpTest() override {
    for (const int fd : {ready_[0], ready_[1], go_[0], go_[1]}) {
      close(fd);
    }
  }
  void SetUp() override {
    if (!AbsentMemory().ok()) {
      GTEST_SKIP() << "userfaultfd: not permitted";
    }
    alarm(3 * kPatienceSeconds);  // rather than hang
  }
  void TearDown() override { alarm(0); }

  // For the child.
  void SayReady() const { (void)!write(ready_[1], "r", 1); }
  void AwaitGo() const {
    char byte = 0;
    (void)!read(go_[0], &byte, 1);
  }
  // For the test.
  [[nodiscard]] bool AwaitReady() const {
    pollfd ready = {ready_[0], POLLIN, 0};
    return poll(&ready, 1, kPatienceSeconds * 1000) == 1;
  }
  void Go() const { (void)!write(go_[1], "g", 1); }

  // Another container's connections, of a blocking socket and of another: neither waits.
  static void ExpectOthersConnect(Guarded& guarded) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(guarded.Run([](int) {
        alarm(kPatienceSeconds);
        if (Connect(socket(AF_INET, SOCK_STREAM, 0), kOther) != 0) {
          return 1;
        }
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        pollfd writable = {fd, POLLOUT, 0};
        if (Connect(fd, kOther) != EINPROGRESS || poll(&writable, 1, -1) != 1) {
          return 2;
        }
        return State(fd) == TCP_ESTABLISHED ? 0 : 3;
      }),
                0);
    }
  }

 private:
  int ready_[2] = {-1, -1};
  int go_[2] = {-1, -1};
};

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child

// A thread that copies from absent memory in write(2) holds its socket's lock (lock_sock()), and
// every other call on the socket waits for it.
TEST_F(HoldUpTest, ASocketWhoseLockIsHeldHoldsUpNoOtherContainer) {
  TwoSpeedProxy proxy(0);
  Guarded guarded(Policy(proxy.port()));
  GuardedProcess holder(guarded.Plan(), [&](int) {
    struct sigaction wakes = {};
    wakes.sa_handler = [](int) {};
    sigaction(SIGUSR1, &wakes, nullptr);
    const AbsentMemory memory;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    std::thread connects([&] {
      while (true) {
        (void)Connect(fd, kHeld);
        usleep(1'000);
      }
    });
    while (State(fd) != TCP_ESTABLISHED) {
      usleep(1'000);
    }
    std::thread([&] { (void)!write(fd, memory.get(), 16); }).detach();
    usleep(100'000);
    SayReady();
    AwaitGo();
    // The caller leaves, and what it had begun is left to the agent.
    pthread_kill(connects.native_handle(), SIGUSR1);
    usleep(200'000);
    SayReady();
    AwaitGo();
    _exit(42);
    return 0;
  });
  guarded.Attach(holder);
  holder.Go();
  ASSERT_TRUE(AwaitReady());
  ExpectOthersConnect(guarded);
  proxy.Go();  // its answer is there to be read, by whoever gets hold of the socket
  ExpectOthersConnect(guarded);
  Go();
  ExpectOthersConnect(guarded);
  Go();
  EXPECT_EQ(holder.Wait(), 42);
}

// A program is told of a failure by way of its socket, which takes the lock.
TEST_F(HoldUpTest, AFailureOfASocketWhoseLockIsHeldHoldsUpNoOtherContainer) {
  TwoSpeedProxy proxy(5);
  Guarded guarded(Policy(proxy.port()));
  GuardedProcess holder(guarded.Plan(), [&](int) {
    const AbsentMemory memory;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (Connect(fd, kHeld) != EINPROGRESS) {
      return 1;
    }
    // Copied in two steps, the second with the lock held (sk_setsockopt(), net/core/sock.c).
    std::thread([&] {
      (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, memory.after(sizeof(int)), sizeof(linger));
    }).detach();
    usleep(100'000);
    SayReady();
    AwaitGo();
    _exit(42);
    return 0;
  });
  guarded.Attach(holder);
  holder.Go();
  ASSERT_TRUE(AwaitReady());
  proxy.Go();
  usleep(100'000);
  ExpectOthersConnect(guarded);
  Go();
  EXPECT_EQ(holder.Wait(), 42);
}

// A file server of a container that never answers (fuse(4)), behind the file that is read as a
// container begins: neither its own start nor that of others waits for it.
TEST_F(HoldUpTest, AFileThatIsNeverReadHoldsUpNoStart) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(kPatienceSeconds);
    const int server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const std::string options = fmt::format("fd={},rootmode=100000,user_id=0,group_id=0", server);
    if (server < 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("never", "/etc/resolv.conf", "fuse", 0, options.c_str()) != 0) {
      _exit(kNoFileServer);
    }
    Guarded guarded(Policy(1));
    int status = 0;
    for (int i = 0; i < 3 && status == 0; ++i) {
      status = guarded.Run([](int) { return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1; });
    }
    _exit(status);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNoFileServer) {
    GTEST_SKIP() << "needs root, and /dev/fuse";
  }
  EXPECT_EQ(status, 0);
}

#endif

// A proxy's failure is reported by a thread that serves all containers: it does not look into the
// memory of one, whose lock (mmap_lock) a container can hold as long as it likes, for instance by
// mapping a file of its own file server (fuse(4)).
TEST_F(HoldUpTest, AFailureIsReportedWithoutLookingIntoMemory) {
  TwoSpeedProxy proxy(5);
  Guarded guarded(Policy(proxy.port()));
  GuardedProcess holder(guarded.Plan(), [&](int) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (Connect(fd, kHeld) != EINPROGRESS) {
      return 1;
    }
    SayReady();
    AwaitGo();
    return 42;
  });
  guarded.Attach(holder);
  holder.Go();
  ASSERT_TRUE(AwaitReady());
  proxy.Go();
  const auto is_failure = [](const Event& event) { return event.proxy_failure; };
  std::vector<Event> events;
  for (int i = 0; i < 500 && std::ranges::none_of(events, is_failure); ++i) {
    usleep(10'000);
    events = guarded.sink().events();
  }
  const auto failure = std::ranges::find_if(events, is_failure);
  ASSERT_NE(failure, events.end());
  ASSERT_NE(failure->process, nullptr);
  EXPECT_EQ(failure->process->pid, holder.pid());
  EXPECT_EQ(failure->process->command_line, "");
  ExpectOthersConnect(guarded);
  Go();
  EXPECT_EQ(holder.Wait(), 42);
}

}  // namespace
}  // namespace oakum::agent
