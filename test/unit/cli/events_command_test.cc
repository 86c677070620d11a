#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "agent/server/unix_socket.h"
#include "base/file.h"
#include "cli/control_client.h"
#include "cli/line_reader.h"
#include "cli/oakum.h"
#include "test/unit/cli/event_lines.h"

namespace oakum::cli {
namespace {

using testing::EventJson;
using ::testing::HasSubstr;
using testing::json;

class EventsCommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-cli-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    file_ = dir_ + "/events.jsonl";
    json allowed = EventJson("other", 1);
    allowed["container"]["name"] = "db";
    allowed["oakum"]["verdict"] = "allow";
    allowed["oakum"]["leak"] = false;
    text_ = EventJson("c1").dump() + "\n" + allowed.dump() + "\nnonsense\n\n" +
            EventJson("c1", 2).dump();  // the last one without its newline
    ASSERT_TRUE(ReplaceFile(file_, text_));
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  int Run(std::vector<std::string> words) {
    out_.str("");
    err_.str("");
    words.insert(words.begin(), "oakum");
    std::vector<const char*> argv;
    argv.reserve(words.size());
    for (const std::string& word : words) {
      argv.push_back(word.c_str());
    }
    Context context{.out = out_, .err = err_};
    return RunOakum(static_cast<int>(argv.size()), argv.data(), context);
  }
  // Answers one request with `answer`, as an agent would.
  std::thread Answer(const agent::UnixListener& socket, std::string answer) {
    return std::thread([&socket, answer = std::move(answer)] {
      for (int i = 0; i < 500; ++i) {
        const auto client = agent::Accept(socket.fd());
        if (client) {
          std::array<char, 1'024> request;
          for (int j = 0; j < 500 && recv(client->get(), request.data(), request.size(), 0) < 0;
               ++j) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
          }
          EXPECT_TRUE(WriteAll(client->get(), answer));
          return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    });
  }

  std::string dir_;
  std::string file_;
  std::string text_;
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(EventsCommandTest, ReportSaysWhoLeaked) {
  EXPECT_EQ(Run({"report", file_}), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("container web (c1)"));
  EXPECT_THAT(out_.str(), HasSubstr("summary: 2 leaks, all stopped, by 1 container"));
  EXPECT_THAT(out_.str(), HasSubstr("1 line that is no event"));
}

TEST_F(EventsCommandTest, ReportFailsOnLeakWhenAsked) {
  EXPECT_EQ(Run({"report", "--fail-on-leak", file_}), kFound);
  EXPECT_EQ(Run({"report", "--fail-on-leak", "--container", "db", file_}), kOk);
  EXPECT_THAT(out_.str(), HasSubstr("summary: no leaks; 1 event of 1 container"));
}

TEST_F(EventsCommandTest, ReportInJson) {
  EXPECT_EQ(Run({"report", "--format", "json", file_}), kOk);
  EXPECT_EQ(json::parse(out_.str())["summary"]["leaks"], 2);
}

TEST_F(EventsCommandTest, WhatCannotBeReadIsSaid) {
  EXPECT_EQ(Run({"report", dir_ + "/none"}), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("/none: No such file or directory"));
  EXPECT_EQ(Run({"events", dir_}), kUsage);
  EXPECT_EQ(Run({"report", "--format", "pdf", file_}), kUsage);
}

TEST_F(EventsCommandTest, EventsAreFiltered) {
  EXPECT_EQ(Run({"events", file_}), kOk);
  EXPECT_EQ(std::ranges::count(out_.str(), '\n'), 3);
  EXPECT_THAT(err_.str(), HasSubstr("1 line is no event"));
  Run({"events", "--leaks", file_});
  EXPECT_EQ(std::ranges::count(out_.str(), '\n'), 2);
  Run({"events", "--verdict", "allow", file_});
  EXPECT_EQ(std::ranges::count(out_.str(), '\n'), 1);
  Run({"events", "--container", "c1", "--format", "json", file_});
  EXPECT_EQ(out_.str(), EventJson("c1").dump() + "\n" + EventJson("c1", 2).dump() + "\n");
  EXPECT_EQ(Run({"events", "--verdict", "denied", file_}), kUsage);
}

TEST_F(EventsCommandTest, EventsFileIsAskedOfTheAgent) {
  const auto socket = agent::UnixListener::Create(dir_ + "/control.sock").value();
  std::thread agent = Answer(socket, json({{"ok", true}, {"events", file_}}).dump() + "\n");
  EXPECT_EQ(Run({"report", "--control", socket.path()}), kOk);
  agent.join();
  EXPECT_THAT(out_.str(), HasSubstr("2 leaks"));
  agent = Answer(socket, "{\"ok\":true,\"events\":\"-\"}\n");
  EXPECT_EQ(Run({"events", "--control", socket.path()}), kUsage);
  agent.join();
  EXPECT_THAT(err_.str(), HasSubstr("standard output"));
}

TEST_F(EventsCommandTest, PsShowsSessions) {
  const auto socket = agent::UnixListener::Create(dir_ + "/control.sock").value();
  const std::string answer =
      R"({"ok":true,"sessions":[{"session":1,"container_id":"0123456789abcdef","name":"w\u001beb",)"
      R"("policy":"p","mode":"enforce","init_pid":7,"calls":5,"redirected":1,"denied":2,"leaks":1,)"
      R"("stale_filter":["bind"],"attached":"2026-11-24T20:34:45.000000000Z"}]})";
  std::thread agent = Answer(socket, answer + "\n");
  EXPECT_EQ(Run({"ps", "--control", socket.path()}), kOk);
  agent.join();
  EXPECT_EQ(
      out_.str(),
      "CONTAINER     NAME     POLICY  MODE     PID  CALLS  REDIRECTED  DENIED  LEAKS  FILTER  "
      "SINCE\n"
      "0123456789ab  w\\x1beb  p       enforce  7    5      1           2       1      stale   "
      "2026-11-24T20:34:45\n");
}

TEST_F(EventsCommandTest, AgentThatIsNotThereIsSaid) {
  EXPECT_EQ(Run({"ps", "--control", dir_ + "/none.sock"}), kUsage);
  EXPECT_THAT(err_.str(), HasSubstr("is oakum-agent running?"));
}

TEST_F(EventsCommandTest, AgentsErrorsAreSaid) {
  const auto socket = agent::UnixListener::Create(dir_ + "/control.sock").value();
  for (const char* answer : {"{\"ok\":false,\"error\":\"busy\"}\n", "nonsense\n", "", "[]\n"}) {
    std::thread agent = Answer(socket, answer);
    EXPECT_FALSE(AskAgent(socket.path(), "ps")) << answer;
    agent.join();
  }
}

TEST_F(EventsCommandTest, ReaderFollowsGrowthRotationAndTruncation) {
  std::vector<std::string> lines;
  const auto take = [&](std::string_view line) { lines.emplace_back(line); };
  auto reader = LineReader::Open(file_).value();
  ASSERT_TRUE(reader.SkipToEnd());
  const auto append = [&](const std::string& text) { std::ofstream(file_, std::ios::app) << text; };
  const auto look = [&] {
    lines.clear();
    EXPECT_TRUE(reader.Read(take));
    EXPECT_TRUE(reader.FollowRename(take));
    EXPECT_TRUE(reader.Read(take));
    return lines;
  };
  EXPECT_TRUE(look().empty());
  append("a\nb");
  EXPECT_EQ(look(), std::vector<std::string>{"a"});
  append("c\n");
  EXPECT_EQ(look(), std::vector<std::string>{"bc"});
  append("d\n");
  std::filesystem::rename(file_, file_ + ".1");
  EXPECT_EQ(look(), std::vector<std::string>{"d"}) << "no file yet";
  append("e\n");
  EXPECT_EQ(look(), std::vector<std::string>{"e"});
  std::filesystem::resize_file(file_, 0);
  look();
  append("f\n");
  EXPECT_EQ(look(), std::vector<std::string>{"f"});
}

TEST_F(EventsCommandTest, EndlessLineIsCut) {
  ASSERT_TRUE(ReplaceFile(file_, std::string(3 * kMaxLine, 'x') + "\nend\n"));
  size_t longest = 0;
  std::string last;
  auto reader = LineReader::Open(file_).value();
  ASSERT_TRUE(reader.Read([&](std::string_view line) {
    longest = std::max(longest, line.size());
    last = line;
  }));
  EXPECT_LE(longest, kMaxLine + 65'536);
  EXPECT_EQ(last, "end");
}

}  // namespace
}  // namespace oakum::cli
