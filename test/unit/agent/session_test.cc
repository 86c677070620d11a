// Sessions against the running kernel: real filters, real listeners, real sockets on loopback.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "agent/session_manager.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "test/unit/agent/guarded_process.h"

namespace oakum::agent {
namespace {

class RecordingSink final : public EventSink {
 public:
  void Push(Event&& event) override {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  std::vector<Event> events() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Event> events_;
};

std::string Policies(std::string_view mode, std::string_view rest) {
  return fmt::format(
      R"({{"version": 1, "policies": {{"p": {{"mode": "{}", {}}}}},
          "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      mode, rest);
}

struct Options {
  bool io_uring = true;
  bool sync_wake_up = true;
};

// Runs `body` in a child guarded by policy "p" of the file `text`.
class Guarded {
 public:
  explicit Guarded(const std::string& text, Options options = {}) : log_("test", LogLevel::kError) {
    auto policies = policy::PolicySet::Parse(text, "test.json");
    EXPECT_TRUE(policies.has_value()) << policies.error().ToString();
    policies_ = *policies;
    auto manager =
        SessionManager::Create({options.io_uring, options.sync_wake_up}, policies_, sink_, log_);
    EXPECT_TRUE(manager.has_value());
    manager_ = std::move(*manager);
  }

  int Run(const std::function<int(int)>& body, std::string* output = nullptr) {
    GuardedProcess process(policy::Plan(*policies_->Find("p")), body);
    oci::ContainerProcessState state;
    state.id = "guarded";
    state.init_pid = process.pid();
    state.metadata = policy::EncodeListenerMetadata({"p", {}});
    const auto attached = manager_->Attach(state, process.TakeListener());
    EXPECT_TRUE(attached.has_value()) << attached.error().ToString();
    process.Go();
    return process.Wait(output);
  }

  SessionManager& manager() { return *manager_; }
  const RecordingSink& sink() const { return sink_; }

 private:
  Log log_;
  RecordingSink sink_;
  std::shared_ptr<const policy::PolicySet> policies_;
  std::unique_ptr<SessionManager> manager_;
};

// A listening TCP socket or a bound UDP one on 127.0.0.1, in the test process.
class Server {
 public:
  explicit Server(int type) : fd_(socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd_.get(), 16), 0);
    }
  }
  uint16_t port() const { return port_; }
  int fd() const { return fd_.get(); }
  // Whether something arrives within a moment.
  bool Reached() const {
    timeval limit = {0, 100'000};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char buffer[16];
    const int accepted = accept(fd_.get(), nullptr, nullptr);
    if (accepted >= 0) {
      close(accepted);
      return true;
    }
    return recv(fd_.get(), buffer, sizeof buffer, 0) >= 0;
  }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int ConnectError(uint16_t port, int flags = 0) {
  const int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
  const sockaddr_in address = Loopback(port);
  const int error =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return error;
}

int SendError(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in address = Loopback(port);
  const int error =
      sendto(fd, "leak", 4, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 4
          ? 0
          : errno;
  close(fd);
  return error;
}

constexpr std::string_view kDenyAll = R"("outgoing": {"default": "deny"})";
constexpr std::string_view kAllowAll =
    R"("outgoing": {"default": "allow"}, "dns": "allow",
       "incoming": {"default": "deny", "allow": ["*", "* from *"]},
       "unix": {"default": "allow", "deny": ["/nowhere/at/all"]})";

TEST(SessionTest, DeniesTcpConnectAndReportsIt) {
  const Server server(SOCK_STREAM);
  // The way is open without a guard.
  ASSERT_EQ(ConnectError(server.port()), 0);
  ASSERT_TRUE(server.Reached());
  Guarded guarded(Policies("enforce", kDenyAll));
  EXPECT_EQ(guarded.Run([&](int) { return ConnectError(server.port()); }), EACCES);
  EXPECT_FALSE(server.Reached());
  const auto events = guarded.sink().events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].verdict, EventVerdict::kDeny);
  EXPECT_TRUE(events[0].leak);
  EXPECT_EQ(events[0].destination.port, server.port());
  EXPECT_EQ(events[0].errno_value, EACCES);
  ASSERT_NE(events[0].process, nullptr);
}

TEST(SessionTest, AllowsWhatTheRuleAllows) {
  const Server server(SOCK_STREAM);
  const Server other(SOCK_STREAM);
  Guarded guarded(Policies("enforce", fmt::format(R"("outgoing": {{"default": "deny",
      "allow": ["127.0.0.1:{}/tcp"]}})",
                                                  server.port())));
  EXPECT_EQ(guarded.Run([&](int) { return ConnectError(server.port()); }), 0);
  EXPECT_TRUE(server.Reached());
  EXPECT_EQ(guarded.Run([&](int) { return ConnectError(other.port()); }), EACCES);
  EXPECT_FALSE(other.Reached());
}

TEST(SessionTest, DeniesUdpSends) {
  const Server server(SOCK_DGRAM);
  ASSERT_EQ(SendError(server.port()), 0);
  ASSERT_TRUE(server.Reached());
  Guarded guarded(Policies("enforce", kDenyAll));
  EXPECT_EQ(guarded.Run([&](int) { return SendError(server.port()); }), EACCES);
  EXPECT_FALSE(server.Reached());
}

TEST(SessionTest, AuditLetsPassAndReports) {
  const Server server(SOCK_STREAM);
  Guarded guarded(Policies("audit", kDenyAll));
  EXPECT_EQ(guarded.Run([&](int) { return ConnectError(server.port()); }), 0);
  EXPECT_TRUE(server.Reached());
  const auto events = guarded.sink().events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].verdict, EventVerdict::kAudit);
  EXPECT_EQ(events[0].would, policy::Verdict::kDeny);
}

TEST(SessionTest, KillEndsTheProcess) {
  const Server server(SOCK_STREAM);
  Guarded guarded(Policies("kill", kDenyAll));
  EXPECT_EQ(guarded.Run([&](int) { return ConnectError(server.port()); }), -SIGKILL);
  EXPECT_FALSE(server.Reached());
}

TEST(SessionTest, SessionEndsWithItsLastTask) {
  Guarded guarded(Policies("enforce", kDenyAll));
  EXPECT_EQ(guarded.Run([](int) { return ConnectError(9); }), EACCES);
  for (int i = 0; i < 200 && !guarded.manager().List().empty(); ++i) {
    usleep(10'000);
  }
  EXPECT_TRUE(guarded.manager().List().empty());
}

// One situation a line, as in the program's own words; without a guard and with one that allows
// all.
class FidelityTest : public testing::TestWithParam<Options> {};

std::string RunProgram(
    const std::function<int(const std::function<int(int)>&, std::string*)>& run) {
  std::string output;
  const int status = run(
      [](int output_fd) {
        dup2(output_fd, 1);
        const std::string program = FIDELITY_PROGRAM;
        execl(program.c_str(), program.c_str(), nullptr);
        return 100;
      },
      &output);
  EXPECT_EQ(status, 0);
  return output;
}

TEST_P(FidelityTest, AnswersAreNative) {
  const std::string native = RunProgram([](const auto& body, std::string* output) {
    GuardedProcess process({}, body);
    process.Go();
    return process.Wait(output);
  });
  Guarded guarded(Policies("enforce", kAllowAll), GetParam());
  const std::string under_guard =
      RunProgram([&](const auto& body, std::string* output) { return guarded.Run(body, output); });
  EXPECT_FALSE(native.empty());
  // Line by line, so that a difference is seen at once.
  std::istringstream expected(native);
  std::istringstream got(under_guard);
  std::string expected_line;
  std::string got_line;
  while (std::getline(expected, expected_line)) {
    std::getline(got, got_line);
    EXPECT_EQ(got_line, expected_line);
  }
  EXPECT_EQ(std::ranges::count(under_guard, '\n'), std::ranges::count(native, '\n'));
}

INSTANTIATE_TEST_SUITE_P(Ways, FidelityTest,
                         testing::Values(Options{true, true}, Options{false, false}),
                         [](const auto& param_info) {
                           return param_info.param.io_uring ? "IoUring" : "Threads";
                         });

}  // namespace
}  // namespace oakum::agent
