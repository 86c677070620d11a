#include "agent/events/event_folder.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "test/unit/agent/event_samples.h"

namespace oakum::agent {
namespace {

using nlohmann::json;
using testing::Denied;
using testing::Source;

constexpr int64_t kSecond = 1'000'000'000;

std::vector<json> Lines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(json::parse(line));
  }
  return lines;
}

uint64_t StandsFor(const json& line) {
  return line["oakum"].value("count", uint64_t{1}) + line["oakum"].value("suppressed", uint64_t{0});
}

uint64_t Sum(const std::vector<json>& lines) {
  uint64_t sum = 0;
  for (const json& line : lines) {
    sum += StandsFor(line);
  }
  return sum;
}

TEST(EventFolder, FirstTenAreSingleAndTheRestOneLine) {
  EventFolder folder({});
  const auto source = Source("c");
  std::string out;
  for (int i = 0; i < 100; ++i) {
    Event event = Denied(source);
    event.time_ns += i;
    folder.Add(std::move(event), 0, i, out);
  }
  EXPECT_EQ(Lines(out).size(), 10);
  EXPECT_EQ(folder.NextExpiry(), kSecond);
  folder.Expire(kSecond - 1, out);
  EXPECT_EQ(Lines(out).size(), 10);
  folder.Expire(kSecond, out);
  const auto lines = Lines(out);
  ASSERT_EQ(lines.size(), 11);
  EXPECT_EQ(lines[10]["oakum"]["count"], 90);
  EXPECT_EQ(lines[10]["event"]["start"], "2026-11-24T20:34:44.123456799Z");
  EXPECT_EQ(lines[10]["@timestamp"], "2026-11-24T20:34:44.123456888Z");
  EXPECT_EQ(folder.NextExpiry(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(folder.folded(), 89);
}

TEST(EventFolder, NextWindowStartsWithSinglesAgain) {
  EventFolder folder({});
  const auto source = Source("c");
  std::string out;
  for (int second = 0; second < 3; ++second) {
    for (int i = 0; i < 5; ++i) {
      folder.Add(Denied(source), 0, second * kSecond, out);
    }
  }
  EXPECT_EQ(Lines(out).size(), 15);
}

TEST(EventFolder, DifferentEventsAreNotFolded) {
  EventFolder folder({.singles = 1});
  const auto source = Source("c");
  std::string out;
  const auto add = [&](auto change) {
    Event event = Denied(source);
    change(event);
    folder.Add(std::move(event), 0, 0, out);
  };
  add([](Event&) {});
  add([](Event& e) { e.destination.port = 81; });
  add([](Event& e) { e.destination.ip = policy::IpAddress::FromV4({10, 1, 2, 4}); });
  add([](Event& e) { e.verdict = EventVerdict::kKill; });
  add([](Event& e) { e.leak = false; });
  add([](Event& e) { e.rule = "outgoing.deny 10.1.2.3"; });
  add([](Event& e) { e.syscall = "sendto"; });
  add([](Event& e) { e.operation = policy::Operation::kSend; });
  add([](Event& e) { e.transport = policy::Transport::kUdp; });
  add([](Event& e) { e.errno_value = 1; });
  add([](Event& e) { e.detail = "x"; });
  add([](Event& e) { e.process = nullptr; });
  add([](Event& e) { e.source_of = Source("d"); });
  EXPECT_EQ(Lines(out).size(), 13);
  folder.Flush(out);
  EXPECT_EQ(Lines(out).size(), 13);
}

TEST(EventFolder, PeersPortDoesNotMatter) {
  EventFolder folder({.singles = 1});
  const auto source = Source("c");
  std::string out;
  for (uint16_t port = 1; port <= 10; ++port) {
    Event event = Denied(source);
    event.operation = policy::Operation::kAccept;
    event.source.port = port;
    folder.Add(std::move(event), 0, 0, out);
  }
  folder.Flush(out);
  EXPECT_EQ(Lines(out).size(), 2);
  EXPECT_EQ(Sum(Lines(out)), 10);
}

TEST(EventFolder, PortScanBeyondTheBudgetBecomesOneLine) {
  EventFolder folder({.source_lines = 100});
  const auto scanner = Source("scanner");
  const auto other = Source("other");
  std::string out;
  for (int port = 1; port <= 10'000; ++port) {
    folder.Add(Denied(scanner, static_cast<uint16_t>(port)), 0, 0, out);
  }
  folder.Add(Denied(other), 0, 0, out);
  EXPECT_EQ(Lines(out).size(), 101);
  folder.Expire(kSecond, out);
  const auto lines = Lines(out);
  ASSERT_EQ(lines.size(), 102);
  EXPECT_EQ(lines[101]["oakum"]["suppressed"], 9'899);
  EXPECT_EQ(lines[101]["container"]["id"], "scanner");
  EXPECT_EQ(Sum(lines), 10'001);
  EXPECT_EQ(folder.suppressed(), 9'899);
}

TEST(EventFolder, OthersKnownByNumberGetALine) {
  EventFolder folder({});
  std::string out;
  folder.Add(Denied(Source("c")), 41, 0, out);
  folder.Add(Denied(Source("c")), 0, 0, out);
  const auto lines = Lines(out);
  ASSERT_EQ(lines.size(), 2);
  EXPECT_EQ(lines[0]["oakum"]["suppressed"], 41);
  EXPECT_EQ(Sum(lines), 43);
}

TEST(EventFolder, RemembersABoundedNumberOfKindsAndStillCountsRight) {
  EventFolder folder({.singles = 1, .kinds = 8});
  const auto source = Source("c");
  std::string out;
  for (int i = 0; i < 1'000; ++i) {
    folder.Add(Denied(source, static_cast<uint16_t>(i % 5)), 0, i, out);
    folder.Add(Denied(source, static_cast<uint16_t>(i % 23)), 0, i, out);
  }
  folder.Flush(out);
  EXPECT_EQ(Sum(Lines(out)), 2'000);
}

}  // namespace
}  // namespace oakum::agent
