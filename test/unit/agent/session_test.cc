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

#include "agent/session/session_manager.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

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
