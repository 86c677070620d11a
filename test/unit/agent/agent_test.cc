#include "agent/agent.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/metrics.h"
#include "base/file.h"
#include "test/unit/agent/event_samples.h"
#include "test/unit/agent/fake_sessions.h"

namespace oakum::agent {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr char kPolicy[] = R"({
  "version": 1,
  "policies": {"p": {"mode": "enforce", "outgoing": {"default": "deny"}}},
  "containers": [{"match": {}, "policy": "p"}]
})";

class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-agent-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    diagnostics_fd_.Reset(
        open((dir_ + "/diagnostics").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    log_ = std::make_unique<Log>("test", LogLevel::kDebug, false, diagnostics_fd_.get());
    WritePolicy(kPolicy);
    options_.version = "1.2.3";
    options_.socket = dir_ + "/agent.sock";
    options_.policy = dir_ + "/policy.json";
    options_.events = dir_ + "/events.jsonl";
    options_.metrics = "";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void WritePolicy(std::string_view text) const {
    ASSERT_TRUE(ReplaceFile(dir_ + "/policy.json", text));
  }
  Expected<std::unique_ptr<Agent>> Make() {
    return Agent::Create(
        options_, BlockSignals().value(),
        [this](std::shared_ptr<const policy::PolicySet> policies, EventSink& events,
               const Log&) -> Expected<std::unique_ptr<SessionManager>> {
          fake_.policies.push_back(std::move(policies));
          fake_.events = &events;
          return std::make_unique<testing::FakeSessions>(fake_);
        },
        *log_);
  }
  [[nodiscard]] std::string Diagnostics() const {
    return ReadFile(dir_ + "/diagnostics", 1 << 20).value();
  }
  static UniqueFd ConnectUnix(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  // Sends `request` and runs the agent until an answer that ends with `end` is there.
  static std::string Ask(Agent& agent, const UniqueFd& fd, std::string_view request,
                         std::string_view end) {
    EXPECT_TRUE(WriteAll(fd.get(), request));
    std::string answer;
    for (int i = 0; i < 200 && !answer.ends_with(end); ++i) {
      EXPECT_TRUE(agent.loop().RunOnce(milliseconds(5)));
      std::array<char, 65'536> buffer;
      const ssize_t got = recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      answer.append(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0);
    }
    return answer;
  }

  std::string dir_;
  UniqueFd diagnostics_fd_;
  std::unique_ptr<Log> log_;
  AgentOptions options_;
  testing::FakeSessionsState fake_;
};

TEST_F(AgentTest, EndsOnSigtermAndTakesItsSocketsWithIt) {
  auto agent = Make();
  ASSERT_TRUE(agent) << agent.error().what;
  EXPECT_TRUE(std::filesystem::exists(options_.socket));
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/control.sock"));
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  EXPECT_TRUE((*agent)->Run());
  agent->reset();
  EXPECT_FALSE(std::filesystem::exists(options_.socket));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/control.sock"));
  EXPECT_THAT(Diagnostics(), HasSubstr("ending on SIGTERM"));
}

TEST_F(AgentTest, SighupTakesAGoodPolicyAndRefusesABadOne) {
  auto agent = Make();
  ASSERT_TRUE(agent) << agent.error().what;
  WritePolicy(R"({"version": 1, "policies": {"p": {"mod": "audit"}}})");
  ASSERT_EQ(kill(getpid(), SIGHUP), 0);
  ASSERT_TRUE((*agent)->loop().RunOnce(milliseconds(1'000)));
  EXPECT_EQ(fake_.policies.size(), 1);
  AgentStatus status = (*agent)->Status();
  EXPECT_EQ(status.failed_reloads, 1);
  EXPECT_EQ(status.policy_generation, 1);
  EXPECT_THAT(status.policy_error, HasSubstr("policy.json:1:"));
  EXPECT_THAT(Diagnostics(), HasSubstr("stays in force"));

  WritePolicy(kPolicy);
  ASSERT_EQ(kill(getpid(), SIGHUP), 0);
  ASSERT_TRUE((*agent)->loop().RunOnce(milliseconds(1'000)));
  EXPECT_EQ(fake_.policies.size(), 2);
  status = (*agent)->Status();
  EXPECT_EQ(status.policy_generation, 2);
  EXPECT_EQ(status.policy_error, "");
}

TEST_F(AgentTest, SighupOpensTheEventsAnew) {
  auto agent = Make();
  ASSERT_TRUE(agent) << agent.error().what;
  std::filesystem::rename(options_.events, options_.events + ".1");
  ASSERT_EQ(kill(getpid(), SIGHUP), 0);
  ASSERT_TRUE((*agent)->loop().RunOnce(milliseconds(1'000)));
  fake_.events->Push(testing::Denied(testing::Source("c")));
  agent->reset();
  EXPECT_THAT(ReadFile(options_.events, 1 << 20).value(), HasSubstr("\"10.1.2.3\""));
  EXPECT_EQ(ReadFile(options_.events + ".1", 1 << 20).value(), "");
}

TEST_F(AgentTest, ControlSocketAnswers) {
  auto agent = Make();
  ASSERT_TRUE(agent) << agent.error().what;
  fake_.sessions.resize(2);
  const UniqueFd client = ConnectUnix(dir_ + "/control.sock");
  const json status = json::parse(Ask(**agent, client, "{\"op\":\"status\"}\n", "\n"));
  EXPECT_EQ(status["version"], "1.2.3");
  EXPECT_EQ(status["sessions"], 2);
  EXPECT_EQ(status["policy"]["names"], json::parse(R"(["p"])"));
  EXPECT_EQ(json::parse(Ask(**agent, client, "{\"op\":\"ps\"}\n", "\n"))["sessions"].size(), 2);
}

TEST_F(AgentTest, MetricsAreServed) {
  UniqueFd probe = ListenTcp("127.0.0.1:0").value();
  struct sockaddr_in address = {};
  socklen_t length = sizeof(address);
  ASSERT_EQ(getsockname(probe.get(), reinterpret_cast<struct sockaddr*>(&address), &length), 0);
  options_.metrics = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  probe.Reset();
  fake_.totals.leaks = 42;
  auto agent = Make();
  ASSERT_TRUE(agent) << agent.error().what;
  const UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(client.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)),
            0);
  const std::string page =
      Ask(**agent, client, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "queued 0\n");
  EXPECT_THAT(page, HasSubstr("HTTP/1.1 200 OK"));
  EXPECT_THAT(page, HasSubstr("oakum_leaks_total 42\n"));
}

TEST_F(AgentTest, WhatCannotBeUsedIsSaidAndNothingStays) {
  const auto refused = [&](const char* what) {
    auto agent = Make();
    ASSERT_FALSE(agent) << what;
    EXPECT_THAT(agent.error().what, HasSubstr(what));
    EXPECT_FALSE(std::filesystem::exists(options_.socket)) << what;
  };
  const AgentOptions good = options_;
  options_.policy = dir_ + "/none.json";
  refused("none.json");
  options_ = good;
  options_.events = dir_ + "/none/events";
  refused("none/events");
  options_ = good;
  options_.metrics = "nonsense";
  refused("nonsense");
  options_ = good;
  options_.control = dir_ + "/policy.json";
  refused("something else has that name");
}

}  // namespace
}  // namespace oakum::agent
