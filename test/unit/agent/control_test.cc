#include "agent/control.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "test/unit/agent/agent_status_samples.h"

namespace oakum::agent {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

int reloads = 0;
int reopens = 0;
std::string refuse;  // what is wrong with the policy

json Answer(std::string_view request, ControlRights rights = ControlRights::kAll) {
  const std::string line =
      AnswerControl(request, rights,
                    {.status = testing::Status,
                     .reload =
                         [] {
                           ++reloads;
                           return refuse.empty() ? Expected<void>() : MakeError(EINVAL, refuse);
                         },
                     .reopen = [] { ++reopens; }});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  return json::parse(line);
}

TEST(Control, StatusSaysWhatTheAgentUses) {
  const json answer = Answer(R"({"op": "status"})");
  EXPECT_EQ(answer["ok"], true);
  EXPECT_EQ(answer["version"], "0.1.0");
  EXPECT_EQ(answer["events"], "/var/log/oakum/events.jsonl");
  EXPECT_EQ(answer["policy"]["names"], json::parse(R"(["a","b"])"));
  EXPECT_TRUE(answer["policy"]["error"].is_null());
  EXPECT_EQ(answer["sessions"], 1);
  EXPECT_EQ(answer["counters"]["leaks"], 9);
  EXPECT_EQ(answer["counters"]["redirected"], 6);
}

TEST(Control, PsListsSessionsWhateverTheirNames) {
  const json answer = Answer(R"({"op":"ps"})");
  ASSERT_EQ(answer["sessions"].size(), 1);
  const json& session = answer["sessions"][0];
  EXPECT_EQ(session["container_id"], "c1");
  EXPECT_EQ(session["name"], "we\xef\xbf\xbd\nb");
  EXPECT_EQ(session["mode"], "kill");
  EXPECT_EQ(session["attached"], "2026-11-24T20:34:45.000000000Z");
  EXPECT_EQ(session["waiting"], 1);
  EXPECT_EQ(session["stale_filter"], json::parse(R"(["bind","listen"])"));
  EXPECT_EQ(session["refused_by_filter"], json::array());
}

TEST(Control, ReloadSaysWhyItIsRefused) {
  reloads = 0;
  json answer = Answer(R"({"op":"reload"})");
  EXPECT_EQ(answer["ok"], true);
  EXPECT_EQ(answer["policy"]["names"], json::parse(R"(["a","b"])"));
  refuse = "/etc/oakum/policy.json:3:4: unknown key";
  answer = Answer(R"({"op":"reload"})");
  EXPECT_EQ(answer["ok"], false);
  EXPECT_EQ(answer["error"], refuse);
  refuse.clear();
  EXPECT_EQ(reloads, 2);
}

TEST(Control, ReadersChangeNothing) {
  reloads = reopens = 0;
  for (const char* op : {"status", "ps"}) {
    EXPECT_EQ(Answer(fmt::format(R"({{"op":"{}"}})", op), ControlRights::kRead)["ok"], true) << op;
  }
  for (const char* op : {"reload", "reopen"}) {
    const json answer = Answer(fmt::format(R"({{"op":"{}"}})", op), ControlRights::kRead);
    EXPECT_EQ(answer["ok"], false) << op;
    EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("for root and the agent's own user"));
  }
  EXPECT_EQ(reloads + reopens, 0);
  EXPECT_EQ(Answer(R"({"op":"reopen"})")["ok"], true);
  EXPECT_EQ(reopens, 1);
}

TEST(Control, LongTextsAreCutOff) {
  const std::string line = AnswerControl(R"({"op":"ps"})", ControlRights::kRead,
                                         {.status =
                                              [] {
                                                AgentStatus status = testing::Status();
                                                status.sessions[0].name = std::string(1 << 20, 'n');
                                                status.sessions[0].image =
                                                    std::string(1 << 20, 'i');
                                                return status;
                                              },
                                          .reload = {},
                                          .reopen = {}});
  EXPECT_LT(line.size(), 4 * kMaxControlText);
}

TEST(Control, BadRequestsAreAnsweredWithWhatIsWrong) {
  for (const char* request : {"", "x", "[]", "{}", R"({"op": 1})", R"({"op":"ps","op":"ps"})"}) {
    EXPECT_EQ(Answer(request)["ok"], false) << request;
  }
  EXPECT_THAT(Answer(R"({"op":"stop\u001b"})")["error"].get<std::string>(),
              HasSubstr(R"(unknown op "stop\x1b")"));
}

}  // namespace
}  // namespace oakum::agent
