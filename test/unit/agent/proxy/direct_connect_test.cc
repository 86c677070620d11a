#include "agent/proxy/direct_connect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

#include "agent/proxy/aside.h"
#include "agent/proxy/proxy_socket.h"
#include "scripted_proxy.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::string_view kReply("\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34", 10);
constexpr seconds kPatience{30};

// Opened by the test when a proxy is to go on.
class Gate {
 public:
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [this] { return open_; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

void AnswerSocks(ProxySide& side) {
  (void)side.Read(3);
  side.Write("\x05\x00"s);
  (void)side.Read(18);
  side.Write(std::string(kReply) + "hello");
  side.AwaitEnd();
}

// A proxy that answers once `gate` is open.
std::function<void(ProxySide&)> AnsweringAfter(Gate& gate) {
  return [&gate](ProxySide& side) {
    gate.Pass();
    AnswerSocks(side);
  };
}

class DirectConnectTest : public testing::Test {
 protected:
  DirectConnectTest() {
    auto uring = UringCalls::Create(true);
    if (uring) {
      uring_ = std::move(*uring);
    }
    proxy_.name = "p";
    socket_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  void SetUp() override {
    if (!uring_) {
      GTEST_SKIP() << "io_uring is switched off";
    }
  }

  [[nodiscard]] DirectRequest Request(const std::string& name = "example.com") {
    DirectRequest request;
    request.proxy = &proxy_;
    request.target.name = name;
    request.target.address.port = 443;
    request.ended = [this](const std::optional<ProxyFailure>& failure) {
      const std::lock_guard lock(mutex_);
      ++ends_;
      failure_ = failure;
    };
    return request;
  }
  [[nodiscard]] UniqueFd Pinned() const {
    return UniqueFd(fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0));
  }
  [[nodiscard]] DirectStart Begin(const std::string& name = "example.com") {
    return directs_.Begin(Pinned(), AF_INET, Request(name), *uring_);
  }

  // What the caller is told in the end.
  int Finish(DirectStart start) {
    EXPECT_FALSE(start.fallback);
    if (start.error) {
      return *start.error;
    }
    const auto deadline = Clock::now() + kPatience;
    while (Clock::now() < deadline) {
      if (auto answer = start.operation->Step({uring_.get(), false}); answer) {
        EXPECT_EQ(answer->value, 0);
        return answer->error;
      }
      const Wait wait = start.operation->wait();
      pollfd waited = {.fd = start.operation->socket_fd(),
                       .events = static_cast<short>(wait.events == EPOLLIN ? POLLIN : POLLOUT),
                       .revents = 0};
      EXPECT_GT(wait.retry.count(), 0);
      (void)poll(&waited, 1, static_cast<int>(wait.retry.count()));
    }
    ADD_FAILURE() << "no end";
    return -1;
  }
  int Connect() { return Finish(Begin()); }

  // What the program reads afterwards: it may wait.
  [[nodiscard]] std::string Read(size_t size) const {
    ProxySide program{UniqueFd(fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0))};
    return program.Read(size);
  }
  [[nodiscard]] size_t ends() {
    const std::lock_guard lock(mutex_);
    return ends_;
  }
  [[nodiscard]] std::string text() {
    const std::lock_guard lock(mutex_);
    return failure_ ? failure_->text : "";
  }

  // Whether the socket is as new: nothing pending, and a connect(2) of its own goes through.
  void ExpectConnectable() {
    int error = -1;
    socklen_t length = sizeof error;
    ASSERT_EQ(getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &length), 0);
    EXPECT_EQ(error, 0);
    ScriptedProxy other([](ProxySide& side) { side.Write("native"); });
    const SockaddrCopy address =
        InetSockaddr({.ip = *policy::IpAddress::Parse("127.0.0.1"), .port = other.port()});
    ASSERT_EQ(connect(socket_.get(), address.get(), address.length), 0);
    EXPECT_EQ(Read(6), "native");
  }

  std::unique_ptr<UringCalls> uring_;
  Upstreams upstreams_{[] { return Upstreams::Clock::time_point(std::chrono::hours(1)); }};
  policy::Proxy proxy_;
  std::mutex mutex_;
  size_t ends_ = 0;
  std::optional<ProxyFailure> failure_;
  bool somebody_goes_on_ = true;
  Aside aside_;
  DirectConnects directs_{upstreams_, [this](const void* owner, std::function<void()> job) {
                            return somebody_goes_on_ && aside_.Run(owner, std::move(job));
                          }};
  UniqueFd socket_;
};

TEST_F(DirectConnectTest, TheSocketLeadsToTheTargetAndNothingIsReadTooFar) {
  ScriptedProxy proxy(AnswerSocks);
  proxy_.urls = {proxy.Url("socks5h")};
  EXPECT_EQ(Connect(), 0) << text();
  EXPECT_EQ(ends(), 1U);
  EXPECT_EQ(text(), "");
  EXPECT_EQ(Read(5), "hello");
  EXPECT_FALSE(directs_.Busy(socket_.get()));
  EXPECT_EQ(fcntl(socket_.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(Connect(), EISCONN);
  EXPECT_EQ(ends(), 1U);
}

TEST_F(DirectConnectTest, HttpReadsNotTooFarEither) {
  ScriptedProxy proxy([](ProxySide& side) {
    (void)side.ReadUntil("\r\n\r\n");
    for (const char byte : "HTTP/1.1 200 OK\r\n\r\n"s) {
      side.Write({&byte, 1});
    }
    side.Write("hello");
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("http")};
  EXPECT_EQ(Connect(), 0) << text();
  EXPECT_EQ(Read(5), "hello");
}

TEST_F(DirectConnectTest, FailsOverAndLeavesAConnectedSocket) {
  UniqueFd keep;
  ScriptedProxy silly([](ProxySide& side) { side.Write("SSH-2.0-what\r\n"); });
  ScriptedProxy good(AnswerSocks);
  proxy_.urls = {DownUrl("socks5h", keep), silly.Url("socks5h"), good.Url("socks5h")};
  EXPECT_EQ(Connect(), 0) << text();
  EXPECT_EQ(Read(5), "hello");
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{2, 0, 1}));
}

TEST_F(DirectConnectTest, AfterAFailureTheSocketIsAsNew) {
  UniqueFd keep;
  proxy_.urls = {DownUrl("socks5h", keep)};
  EXPECT_EQ(Connect(), ECONNREFUSED);
  EXPECT_NE(text().find("connect: Connection refused"), std::string::npos) << text();
  EXPECT_FALSE(directs_.Busy(socket_.get()));
  ExpectConnectable();
}

TEST_F(DirectConnectTest, RefusalsOfTheProxyBecomeTheirErrnoOnASocketAsNew) {
  struct Case {
    char code;
    int error;
  };
  for (const Case one : {Case{1, ECONNREFUSED},
                         {2, EACCES},
                         {3, ENETUNREACH},
                         {4, EHOSTUNREACH},
                         {5, ECONNREFUSED},
                         {6, ETIMEDOUT},
                         {8, ENETUNREACH}}) {
    ScriptedProxy proxy([&](ProxySide& side) {
      (void)side.Read(3);
      side.Write("\x05\x00"s);
      (void)side.Read(18);
      side.Write("\x05"s + one.code + "\x00\x01\x00\x00\x00\x00\x00\x00"s);
      side.AwaitEnd();
    });
    proxy_.urls = {proxy.Url("socks5h")};
    EXPECT_EQ(Connect(), one.error);
    ExpectConnectable();
    socket_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
}

TEST_F(DirectConnectTest, ClosedEarlyAtEveryByte) {
  const std::string answers = "\x05\x00"s + std::string(kReply);
  for (size_t size = 0; size < answers.size(); ++size) {
    ScriptedProxy proxy([&](ProxySide& side) {
      (void)side.Read(3);
      side.Write(answers.substr(0, std::min<size_t>(size, 2)));
      if (size >= 2) {
        (void)side.Read(18);
        side.Write(answers.substr(2, size - 2));
      }
      side.ShutdownWrite();
      side.AwaitEnd();
    });
    proxy_.urls = {proxy.Url("socks5h")};
    EXPECT_EQ(Connect(), ECONNRESET) << size;
    EXPECT_NE(text().find("closed the connection before it"), std::string::npos) << text();
  }
  ExpectConnectable();
}

TEST_F(DirectConnectTest, ASlowProxyEndsAtTheTimeLimit) {
  ScriptedProxy proxy([](ProxySide& side) {
    side.Write("\x05"s);  // and no more
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  proxy_.timeout = seconds(1);
  const auto begun = Clock::now();
  EXPECT_EQ(Connect(), ETIMEDOUT);
  EXPECT_GE(Clock::now() - begun, seconds(1));
  EXPECT_NE(text().find("did not answer within 1 s"), std::string::npos) << text();
  ExpectConnectable();
}

TEST_F(DirectConnectTest, WhileItLastsTheSocketIsBusy) {
  Gate gate;
  ScriptedProxy proxy(AnsweringAfter(gate));
  proxy_.urls = {proxy.Url("socks5h")};
  DirectStart first = Begin();
  ASSERT_NE(first.operation, nullptr);
  EXPECT_TRUE(directs_.Busy(socket_.get()));
  const UniqueFd unrelated(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(directs_.Busy(unrelated.get()));
  EXPECT_EQ(Begin("other.example").error, EALREADY);
  // Another thread that connects to the same target waits for the same connection.
  DirectStart second = Begin();
  ASSERT_NE(second.operation, nullptr);
  gate.Open();
  EXPECT_EQ(Finish(std::move(first)), 0);
  EXPECT_EQ(Finish(std::move(second)), 0);
  EXPECT_EQ(ends(), 1U);
  EXPECT_EQ(proxy.connections(), 1U);
}

TEST_F(DirectConnectTest, GoesOnWithoutItsCallerAndIsFoundAgain) {
  Gate gate;
  ScriptedProxy proxy(AnsweringAfter(gate));
  proxy_.urls = {proxy.Url("socks5h")};
  {
    DirectStart first = Begin();
    ASSERT_NE(first.operation, nullptr);
    EXPECT_FALSE(first.operation->Step({uring_.get(), false}));
    EXPECT_FALSE(first.operation->Abandon());
  }
  EXPECT_TRUE(directs_.Busy(socket_.get()));
  gate.Open();
  const auto deadline = Clock::now() + kPatience;
  while (directs_.Busy(socket_.get()) && Clock::now() < deadline) {
    (void)poll(nullptr, 0, 1);
  }
  EXPECT_EQ(ends(), 1U);
  // What the kernel would say when the call is made again, and then once more.
  EXPECT_EQ(Connect(), 0);
  EXPECT_EQ(Connect(), EISCONN);
  EXPECT_EQ(Read(5), "hello");
  EXPECT_EQ(proxy.connections(), 1U);
}

TEST_F(DirectConnectTest, IsJoinedWhileItGoesOnWithoutItsCaller) {
  Gate gate;
  ScriptedProxy proxy([&](ProxySide& side) {
    (void)side.Read(3);
    side.Write("\x05\x00"s);
    (void)side.Read(18);
    gate.Pass();
    side.Write("\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"s);
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  Begin().operation.reset();  // as when a session ends
  DirectStart again = Begin();
  ASSERT_NE(again.operation, nullptr);
  gate.Open();
  EXPECT_EQ(Finish(std::move(again)), ECONNREFUSED);
  EXPECT_EQ(ends(), 1U);
  ExpectConnectable();
}

TEST_F(DirectConnectTest, WhereNobodyGoesOnWhatIsLeftIsReset) {
  Gate gate;
  ScriptedProxy proxy(AnsweringAfter(gate));
  proxy_.urls = {proxy.Url("socks5h")};
  somebody_goes_on_ = false;
  Begin().operation.reset();
  EXPECT_FALSE(directs_.Busy(socket_.get()));
  gate.Open();
  ExpectConnectable();
}

TEST_F(DirectConnectTest, TimedOutAsNatively) {
  Gate gate;
  ScriptedProxy proxy(AnsweringAfter(gate));
  proxy_.urls = {proxy.Url("socks5h")};
  const timeval limit = {.tv_sec = 0, .tv_usec = 50000};
  ASSERT_EQ(setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
  DirectStart start = Begin();
  ASSERT_NE(start.operation, nullptr);
  EXPECT_GE(start.operation->timeout(), milliseconds(50));  // the kernel counts in ticks
  EXPECT_EQ(start.operation->TimedOut().error, EINPROGRESS);
  gate.Open();
  EXPECT_EQ(Connect(), 0);
}

TEST_F(DirectConnectTest, WithoutARouteTheCallerMayTakeAnotherWay) {
  policy::ProxyUrl url = *policy::ParseProxyUrl("socks5h://[2001:db8::1]:1080");
  proxy_.urls = {url};
  DirectStart start = Begin();  // an IPv4 socket
  EXPECT_TRUE(start.fallback);
  EXPECT_TRUE(start.socket.valid());
  EXPECT_EQ(start.request.target.name, "example.com");
  EXPECT_EQ(ends(), 0U);
  EXPECT_FALSE(directs_.Busy(socket_.get()));
  // Where the policy says that it is the container's network, there is no other way.
  proxy_.from = policy::ProxyFrom::kContainer;
  EXPECT_EQ(Connect(), ECONNREFUSED);
  EXPECT_NE(text().find("Address family not supported"), std::string::npos) << text();
}

TEST_F(DirectConnectTest, AnIpv6SocketReachesAnIpv4Proxy) {
  socket_ = UniqueFd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_) {
    GTEST_SKIP() << "no IPv6";
  }
  ScriptedProxy proxy(AnswerSocks);
  proxy_.urls = {proxy.Url("socks5h")};
  EXPECT_EQ(Finish(directs_.Begin(Pinned(), AF_INET6, Request(), *uring_)), 0) << text();
  EXPECT_EQ(Read(5), "hello");
}

// A thread of the container takes the socket away from the proxy: nothing is said to whom it leads
// to then.
TEST_F(DirectConnectTest, AMovedSocketIsNotSpokenOn) {
  Gate gate;
  ScriptedProxy proxy(AnsweringAfter(gate));
  std::string heard;
  {
    std::optional<ScriptedProxy> other(std::in_place, [&](ProxySide& side) {
      side.Write("\x05\x00"s);
      heard = side.Read(100);
    });
    proxy_.urls = {proxy.Url("socks5h")};
    DirectStart start = Begin();
    ASSERT_NE(start.operation, nullptr);
    sockaddr unspecified = {};
    unspecified.sa_family = AF_UNSPEC;
    ASSERT_EQ(connect(socket_.get(), &unspecified, sizeof unspecified), 0);
    const SockaddrCopy address =
        InetSockaddr({.ip = *policy::IpAddress::Parse("127.0.0.1"), .port = other->port()});
    ASSERT_EQ(connect(socket_.get(), address.get(), address.length), 0);
    EXPECT_EQ(Finish(std::move(start)), ECONNRESET);
    socket_.Reset();
  }
  EXPECT_EQ(heard, "");
  gate.Open();
}

TEST(CanConnectDirectly, OnlyPlainProxiesThatTheContainerReachesAndNoSecrets) {
  const auto can = [](const std::string& url, bool same_netns,
                      policy::ProxyFrom from = policy::ProxyFrom::kAuto,
                      policy::Isolation isolate = policy::Isolation::kNone) {
    policy::Proxy proxy;
    proxy.urls = {policy::ParseProxyUrl("http://192.0.2.7:3128").value(),
                  policy::ParseProxyUrl(url).value()};
    proxy.from = from;
    proxy.isolate = isolate;
    return CanConnectDirectly(proxy, same_netns);
  };
  EXPECT_TRUE(can("socks5h://10.88.0.1:9050", false));
  EXPECT_FALSE(can("socks5h://127.0.0.1:9050", false));
  EXPECT_FALSE(can("socks5h://[::1]:9050", false));
  EXPECT_TRUE(can("socks5h://127.0.0.1:9050", true));
  EXPECT_TRUE(can("socks5h://127.0.0.1:9050", false, policy::ProxyFrom::kContainer));
  EXPECT_FALSE(can("socks5h://10.88.0.1:9050", false, policy::ProxyFrom::kHost));
  EXPECT_FALSE(can("socks5h://proxy.test:9050", true));
  EXPECT_FALSE(can("https://10.88.0.1:3128", true));
  EXPECT_FALSE(can("socks5h+unix:///run/tor.sock", true));
  EXPECT_FALSE(can("socks5h://user:pass@10.88.0.1:9050", false));
  EXPECT_TRUE(can("socks5h://user:pass@10.88.0.1:9050", false, policy::ProxyFrom::kAuto,
                  policy::Isolation::kConnection));
}

}  // namespace
}  // namespace oakum::agent
