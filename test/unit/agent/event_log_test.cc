#include "agent/events/event_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "test/unit/agent/event_samples.h"

namespace oakum::agent {
namespace {

using nlohmann::json;
using testing::Denied;
using ::testing::HasSubstr;
using testing::Source;

class EventLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-events-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    path_ = dir_ + "/events.json";
    diagnostics_path_ = dir_ + "/diagnostics";
    diagnostics_fd_.Reset(
        open(diagnostics_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    log_ = std::make_unique<Log>("test", LogLevel::kDebug, false, diagnostics_fd_.get());
    signal(SIGPIPE, SIG_IGN);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<EventLog> MakeLog(EventLogOptions options = {}) {
    options.path = options.path == "-" ? path_ : options.path;
    auto log = EventLog::Create(options, *log_);
    EXPECT_TRUE(log) << log.error().what;
    return std::move(*log);
  }
  [[nodiscard]] std::string Diagnostics() const {
    return ReadFile(diagnostics_path_, 1 << 20).value();
  }
  static std::vector<json> Parse(const std::string& text) {
    std::vector<json> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      if (!line.empty()) {
        lines.push_back(json::parse(line));
      }
    }
    return lines;
  }
  [[nodiscard]] std::vector<json> Lines(const std::string& path) const {
    return Parse(ReadFile(path, 1 << 28).value());
  }
  static uint64_t Sum(const std::vector<json>& lines, const std::string& verdict = {},
                      const std::string& container = {}) {
    uint64_t sum = 0;
    for (const json& line : lines) {
      const json& oakum = line["oakum"];
      if ((verdict.empty() || oakum["verdict"] == verdict) &&
          (container.empty() || line["container"]["id"] == container)) {
        sum += oakum.value("count", uint64_t{1}) + oakum.value("suppressed", uint64_t{0});
      }
    }
    return sum;
  }
  // Appends what a pipe holds now.
  static void Drain(int fd, std::string& text) {
    std::vector<char> buffer(4'096);
    for (ssize_t got = 0; (got = read(fd, buffer.data(), buffer.size())) > 0;) {
      text.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  static bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  std::string dir_;
  std::string path_;
  std::string diagnostics_path_;
  UniqueFd diagnostics_fd_;
  std::unique_ptr<Log> log_;
};

TEST_F(EventLogTest, WritesAnEventAtOnce) {
  const auto log = MakeLog();
  log->Push(Denied(Source("c")));
  ASSERT_TRUE(log->Sync(5'000));
  const auto lines = Lines(path_);
  ASSERT_EQ(lines.size(), 1);
  EXPECT_EQ(lines[0]["destination"]["ip"], "10.1.2.3");
  struct stat status = {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777 & ~0640U, 0U);
}

TEST_F(EventLogTest, AppendsToWhatIsThereAndStartsALineOfItsOwn) {
  ASSERT_TRUE(ReplaceFile(path_, "{\"cut\":\"of"));
  {
    const auto log = MakeLog();
    log->Push(Denied(Source("c")));
  }
  const std::string text = ReadFile(path_, 1 << 20).value();
  EXPECT_TRUE(text.starts_with("{\"cut\":\"of\n{\"@timestamp\"")) << text;
}

TEST_F(EventLogTest, APathThatCannotBeOpenedIsAnError) {
  const auto log = EventLog::Create({.path = dir_ + "/none/events.json"}, *log_);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, ENOENT);
  EXPECT_THAT(log.error().what, HasSubstr("/none/events.json"));
}

TEST_F(EventLogTest, EqualEventsAreFoldedWhenTheLogEnds) {
  {
    const auto log = MakeLog();
    const auto source = Source("c");
    for (int i = 0; i < 1'000; ++i) {
      log->Push(Denied(source));
    }
  }
  const auto lines = Lines(path_);
  EXPECT_EQ(Sum(lines), 1'000);
  EXPECT_LE(lines.size(), 60);  // 11 for each second that it took
}

TEST_F(EventLogTest, FoldedLineComesByItselfAtTheEndOfItsWindow) {
  const auto log = MakeLog({.fold = {.window_ns = 50'000'000}});
  const auto source = Source("c");
  for (int i = 0; i < 100; ++i) {
    log->Push(Denied(source));
  }
  EXPECT_TRUE(Eventually([&] { return Sum(Lines(path_)) == 100; }));
}

TEST_F(EventLogTest, ManyThreadsLoseNoCount) {
  constexpr int kThreads = 4;
  constexpr int kEach = 20'000;
  EventLogStats stats;
  {
    const auto log = MakeLog({.max_queued = 256});
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&log, t] {
        const auto source = Source("c" + std::to_string(t));
        for (int i = 0; i < kEach; ++i) {
          Event event = Denied(source, static_cast<uint16_t>(i % 50));
          event.verdict = i % 2 == 0 ? EventVerdict::kDeny : EventVerdict::kAudit;
          log->Push(std::move(event));
          if (i == kEach / 2) {
            log->Reopen();
          }
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    stats = log->Stats();
  }
  const auto lines = Lines(path_);
  EXPECT_EQ(stats.leaks, kThreads * kEach);
  for (int t = 0; t < kThreads; ++t) {
    for (const char* verdict : {"deny", "audit"}) {
      EXPECT_EQ(Sum(lines, verdict, "c" + std::to_string(t)), kEach / 2) << t << verdict;
    }
  }
}

TEST_F(EventLogTest, AFloodOfOneContainerDoesNotPushOutAnother) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  auto log = MakeLog({.max_queued = 64});
  const auto flood = Source("flood");
  const auto quiet = Source("quiet");
  // Nobody reads: after the first batch the queue stays as it is.
  log->Push(Denied(flood));
  ASSERT_TRUE(Eventually([&] { return log->Stats().write_errors > 0; }));
  for (int i = 0; i < 10'000; ++i) {
    log->Push(Denied(flood, static_cast<uint16_t>(i)));
  }
  for (uint16_t port = 1; port <= 5; ++port) {
    log->Push(Denied(quiet, port));
  }
  const UniqueFd reader(open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::string text;
  EXPECT_TRUE(Eventually([&] {
    Drain(reader.get(), text);
    return text.ends_with('\n') && Sum(Parse(text)) == 10'006;
  }));
  const auto lines = Parse(text);
  EXPECT_EQ(Sum(lines, {}, "quiet"), 5);
  std::set<int> ports;
  for (const json& line : lines) {
    if (line["container"]["id"] == "quiet") {
      ports.insert(line["destination"]["port"].get<int>());
    }
  }
  EXPECT_EQ(ports.size(), 5) << "each of the quiet container's events is shown";
}

TEST_F(EventLogTest, FullDiskIsSaidOnceAndHoldsNobodyUp) {
  {
    const auto log = MakeLog({.path = "/dev/full", .max_queued = 64});
    const auto source = Source("c");
    log->Push(Denied(source));
    ASSERT_TRUE(Eventually([&] { return log->Stats().write_errors > 0; }));
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 100'000; ++i) {
      log->Push(Denied(source));
    }
    // One push that waits does so for ever.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
    EXPECT_EQ(log->Stats().leaks, 100'001);
    EXPECT_FALSE(log->Sync(50));
  }
  const std::string said = Diagnostics();
  EXPECT_THAT(said, HasSubstr("/dev/full: No space left on device"));
  EXPECT_THAT(said, HasSubstr("lines of events are lost"));
  EXPECT_EQ(said.find("as counts"), said.rfind("as counts")) << said;
}

TEST_F(EventLogTest, SlowReaderGetsEverythingInTheEnd) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  const UniqueFd reader(open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(reader);
  auto log = MakeLog({.max_queued = 16'384});
  const auto source = Source("c");
  for (int port = 0; port < 900; ++port) {  // some 500 KB, more than a pipe takes
    log->Push(Denied(source, static_cast<uint16_t>(port)));
  }
  std::string text;
  EXPECT_TRUE(Eventually([&] {
    Drain(reader.get(), text);
    return text.ends_with('\n') && std::ranges::count(text, '\n') == 900;
  }));
  EXPECT_EQ(Sum(Parse(text)), 900);
}

TEST_F(EventLogTest, ReaderThatGoesAwayComesBackToAWholeLine) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  auto log = MakeLog();
  const auto source = Source("c");
  for (int port = 0; port < 900; ++port) {
    log->Push(Denied(source, static_cast<uint16_t>(port)));
  }
  std::vector<char> buffer(1'000);
  uint64_t errors = 0;
  {
    const UniqueFd first(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_GT(read(first.get(), buffer.data(), buffer.size()), 0);
    ASSERT_TRUE(Eventually([&] { return log->Stats().lines == 900; }));
    errors = log->Stats().write_errors;  // there was no reader in the beginning
  }
  ASSERT_TRUE(Eventually([&] { return log->Stats().write_errors > errors; }));
  const UniqueFd second(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_GT(read(second.get(), buffer.data(), buffer.size()), 20);
  EXPECT_TRUE(std::string(buffer.data(), 20).starts_with("{\"@timestamp\":"));
}

TEST_F(EventLogTest, RotatedFileIsLeftOnReopen) {
  const auto log = MakeLog();
  const auto source = Source("c");
  log->Push(Denied(source, 1));
  ASSERT_TRUE(log->Sync(5'000));
  ASSERT_EQ(rename(path_.c_str(), (path_ + ".1").c_str()), 0);
  log->Push(Denied(source, 2));
  ASSERT_TRUE(log->Sync(5'000));
  log->Reopen();
  log->Push(Denied(source, 3));
  ASSERT_TRUE(log->Sync(5'000));
  const auto old_lines = Lines(path_ + ".1");
  const auto new_lines = Lines(path_);
  ASSERT_EQ(old_lines.size(), 2);
  ASSERT_EQ(new_lines.size(), 1);
  EXPECT_EQ(new_lines[0]["destination"]["port"], 3);
}

TEST_F(EventLogTest, ReopenThatFailsKeepsTheOldFile) {
  const std::string sub = dir_ + "/sub";
  ASSERT_EQ(mkdir(sub.c_str(), 0700), 0);
  const auto log = MakeLog({.path = sub + "/events.json"});
  ASSERT_EQ(rename(sub.c_str(), (sub + ".1").c_str()), 0);
  log->Reopen();
  log->Push(Denied(Source("c")));
  ASSERT_TRUE(log->Sync(5'000));
  EXPECT_EQ(Lines(sub + ".1/events.json").size(), 1);
  EXPECT_THAT(Diagnostics(), HasSubstr("stays in use"));
}

TEST_F(EventLogTest, PushIsCheap) {
  const auto log = MakeLog();
  const auto source = Source("c");
  std::vector<Event> events(10'000, Denied(source));
  // Of this thread's own processor time: the machine may have other work.
  const auto now_ns = [] {
    timespec time = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  const int64_t start = now_ns();
  for (Event& event : events) {
    log->Push(std::move(event));
  }
  const int64_t each = (now_ns() - start) / 10'000;
  RecordProperty("push_ns", std::to_string(each));
  EXPECT_LT(each, 20'000);  // sanitizers; some 100 in a release build
}

}  // namespace
}  // namespace oakum::agent
