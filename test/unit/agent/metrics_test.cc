#include "agent/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "test/unit/agent/agent_status_samples.h"

namespace oakum::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// The samples of a page, and a failure for each line that the text format does not allow.
std::map<std::string, double> Samples(const std::string& page) {
  std::map<std::string, double> samples;
  std::set<std::string> families;
  const std::regex comment("# (HELP [a-z_]+ .+|TYPE ([a-z_]+) (counter|gauge))");
  const std::regex sample(R"(([a-z_]+)(\{[a-z]+="[^"\\]*"\})? ([0-9.e+-]+))");
  std::istringstream stream(page);
  std::smatch match;
  for (std::string line; std::getline(stream, line);) {
    if (std::regex_match(line, match, comment)) {
      if (match[2].matched) {
        EXPECT_TRUE(families.insert(match[2]).second) << line;
      }
    } else if (std::regex_match(line, match, sample)) {
      EXPECT_TRUE(families.contains(match[1])) << line;
      EXPECT_TRUE(samples.emplace(match[1].str() + match[2].str(), std::stod(match[3])).second);
    } else {
      ADD_FAILURE() << line;
    }
  }
  EXPECT_TRUE(page.ends_with('\n'));
  return samples;
}

TEST(Metrics, PageFollowsTheTextFormat) {
  const auto samples = Samples(RenderMetrics(testing::Status()));
  EXPECT_EQ(samples.at(R"(oakum_build_info{version="0.1.0"})"), 1);
  EXPECT_EQ(samples.at(R"(oakum_calls_total{verdict="allow"})"), 90);
  EXPECT_EQ(samples.at(R"(oakum_calls_total{verdict="deny"})"), 10);
  EXPECT_EQ(samples.at(R"(oakum_calls_total{verdict="redirect"})"), 6);
  EXPECT_EQ(samples.at("oakum_proxy_failures_total"), 2);
  EXPECT_EQ(samples.at("oakum_leaks_total"), 9);
  EXPECT_EQ(samples.at("oakum_sessions"), 1);
  EXPECT_EQ(samples.at("oakum_waiting_calls"), 1);
  EXPECT_EQ(samples.at(R"(oakum_stale_filters{gap="unseen"})"), 1);
  EXPECT_EQ(samples.at(R"(oakum_stale_filters{gap="refused"})"), 0);
  EXPECT_EQ(samples.at(R"(oakum_policy_reloads_total{result="ok"})"), 2);
  EXPECT_EQ(samples.at(R"(oakum_policy_reloads_total{result="failed"})"), 1);
  EXPECT_EQ(samples.at(R"(oakum_events_total{verdict="deny"})"), 10);
  EXPECT_EQ(samples.at("oakum_event_lines_total"), 17);
}

TEST(Metrics, LargeCountersKeepTheirDigits) {
  AgentStatus status = testing::Status();
  status.totals.leaks = 9'007'199'254'740'993;
  EXPECT_THAT(RenderMetrics(status), HasSubstr("oakum_leaks_total 9007199254740993\n"));
}

TEST(Metrics, GetAndHeadAreAnswered) {
  const auto get = AnswerHttp("GET /metrics HTTP/1.1\r\nHost: x", testing::Status);
  EXPECT_TRUE(get.close);
  EXPECT_THAT(get.text, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(get.text, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  const size_t body = get.text.find("\r\n\r\n") + 4;
  EXPECT_THAT(get.text,
              HasSubstr("Content-Length: " + std::to_string(get.text.size() - body) + "\r\n"));
  Samples(get.text.substr(body));
  const auto head = AnswerHttp("HEAD /metrics?x HTTP/1.0", testing::Status);
  EXPECT_EQ(head.text, get.text.substr(0, body));
}

TEST(Metrics, EverythingElseIsRefused) {
  const auto text = [](std::string_view head) { return AnswerHttp(head, testing::Status).text; };
  EXPECT_THAT(text("GET / HTTP/1.1"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(text("POST /metrics HTTP/1.1"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(text("POST /metrics HTTP/1.1"), HasSubstr("Allow: GET, HEAD\r\n"));
  for (const char* head : {"", "GET", "GET /metrics", "GET /metrics SPDY/3", " ", "\r\n"}) {
    EXPECT_THAT(text(head), StartsWith("HTTP/1.1 400 ")) << head;
  }
}

TEST(Metrics, AddressesAreChecked) {
  for (const char* good : {"127.0.0.1:0", "[::1]:0", ":0", "[::]:0"}) {
    EXPECT_TRUE(CheckTcpAddress(good)) << good;
  }
  for (const char* bad : {"", "9464", "127.0.0.1", "localhost:1", "::1:9464", "127.0.0.1:65536",
                          "127.0.0.1:", "127.0.0.1:x", "[]:1", "[::1:1"}) {
    EXPECT_EQ(CheckTcpAddress(bad).error().code, EINVAL) << bad;
  }
  EXPECT_TRUE(ListenTcp("127.0.0.1:0"));
}

}  // namespace
}  // namespace oakum::agent
