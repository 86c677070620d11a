#include "cli/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "test/unit/cli/event_lines.h"

namespace oakum::cli {
namespace {

using testing::EventJson;
using ::testing::HasSubstr;
using testing::json;
using ::testing::Not;

constexpr size_t kTop = 50;

EventRecord Record(const json& event) { return ParseEventRecord(event.dump()).value(); }

TEST(EventRecord, ReadsWhatTheReportNeeds) {
  const EventRecord record = Record(EventJson("c1", 7));
  EXPECT_EQ(record.time, "2026-11-24T20:34:07.000000000Z");
  EXPECT_EQ(record.start, record.time);
  EXPECT_EQ(record.destination, "10.1.2.3:80/tcp");
  EXPECT_EQ(record.executable, "/bin/busybox");
  EXPECT_EQ(record.StandsFor(), 1);
  json event = EventJson();
  event["destination"] = {{"ip", "fd00::1"}, {"port", 53}};
  event["network"]["transport"] = "udp";
  event["oakum"]["count"] = 7;
  event["oakum"]["suppressed"] = 3;
  EXPECT_EQ(Record(event).destination, "[fd00::1]:53/udp");
  EXPECT_EQ(Record(event).StandsFor(), 10);
  event["destination"] = {{"address", "/run/x.sock"}};
  EXPECT_EQ(Record(event).destination, "/run/x.sock");
  event.erase("destination");
  event["oakum"]["detail"] = "socket family 17";
  EXPECT_EQ(Record(event).destination, "socket family 17");
}

TEST(EventRecord, WhatIsNoEventIsRefused) {
  for (const char* line :
       {"", "x", "[]", "{}", "null", R"({"@timestamp":"t","oakum":{"verdict":"deny"}})",
        R"({"@timestamp":1,"oakum":{"verdict":"deny","leak":true}})",
        R"({"@timestamp":"t","oakum":{"verdict":"deny","leak":1}})",
        R"({"@timestamp":"t","oakum":"x"})", R"({"@timestamp":"t","oakum":{"verdict":"deny",)"}) {
    EXPECT_FALSE(ParseEventRecord(line)) << line;
  }
}

TEST(EventRecord, MatchesContainersByNameIdAndShortId) {
  const EventRecord record = Record(EventJson("0123456789abcdef"));
  EXPECT_TRUE(MatchesContainer(record, ""));
  EXPECT_TRUE(MatchesContainer(record, "web"));
  EXPECT_TRUE(MatchesContainer(record, "0123456789abcdef"));
  EXPECT_TRUE(MatchesContainer(record, "0123456789ab"));
  EXPECT_FALSE(MatchesContainer(record, "0123"));
  EXPECT_FALSE(MatchesContainer(record, "we"));
}

TEST(EventRecord, TextLineIsEscaped) {
  json event = EventJson();
  event["process"]["name"] = "x\x1b[2J\n";
  event["oakum"]["count"] = 9;
  EXPECT_EQ(EventText(Record(event)),
            R"(2026-11-24T20:34:00.000000000Z deny LEAK web x\x1b[2J\n[42] connect )"
            "10.1.2.3:80/tcp EACCES [outgoing.default deny] x9");
}

TEST(Report, AddsUpEqualEventsAndTheirCounts) {
  Report report;
  report.Add(Record(EventJson("c1", 5)));
  report.Add(Record(EventJson("c1", 1)));
  json folded = EventJson("c1", 9);
  folded["oakum"]["count"] = 90;
  folded["event"]["start"] = "2026-11-24T20:34:08.000000000Z";
  report.Add(Record(folded));
  const ReportSummary summary = report.Summary();
  EXPECT_EQ(summary.leaks, 92);
  EXPECT_EQ(summary.stopped, 92);
  EXPECT_EQ(summary.destinations, 1);
  ASSERT_EQ(summary.containers.size(), 1);
  ASSERT_EQ(summary.containers[0].rows.size(), 1);
  const ReportRow& row = summary.containers[0].rows[0];
  EXPECT_EQ(row.count, 92);
  EXPECT_EQ(row.first, "2026-11-24T20:34:01.000000000Z");
  EXPECT_EQ(row.last, "2026-11-24T20:34:09.000000000Z");
}

TEST(Report, LeaksThatWereLetPassAreNotStopped) {
  Report report;
  json audit = EventJson();
  audit["oakum"]["verdict"] = "audit";
  audit["oakum"]["would"] = "deny";
  report.Add(Record(audit));
  report.Add(Record(EventJson()));
  const std::string text = RenderText(report.Summary(), kTop);
  EXPECT_THAT(text, HasSubstr("2 leaks, 1 of them stopped"));
  EXPECT_THAT(text, HasSubstr("audit (would deny)"));
}

TEST(Report, SuppressedEventsCountWithoutARow) {
  Report report;
  json event = EventJson();
  event["oakum"]["suppressed"] = 1'000;
  report.Add(Record(event));
  const ReportSummary summary = report.Summary();
  EXPECT_EQ(summary.leaks, 1'001);
  EXPECT_EQ(summary.suppressed, 1'000);
  EXPECT_EQ(summary.containers[0].rows[0].count, 1);
  EXPECT_THAT(RenderText(summary, kTop), HasSubstr("1000 of them counted but not shown"));
}

TEST(Report, WorstContainerAndLeaksComeFirst) {
  Report report;
  json allowed = EventJson("calm");
  allowed["oakum"]["leak"] = false;
  allowed["oakum"]["verdict"] = "allow";
  allowed["oakum"]["count"] = 500;
  report.Add(Record(allowed));
  allowed["container"]["id"] = "leaky";
  report.Add(Record(allowed));
  report.Add(Record(EventJson("leaky")));
  const ReportSummary summary = report.Summary();
  EXPECT_EQ(summary.containers[0].id, "leaky");
  EXPECT_TRUE(summary.containers[0].rows[0].leak);
  EXPECT_EQ(summary.leaking_containers, 1);
  EXPECT_THAT(RenderText(summary, kTop),
              HasSubstr("summary: 1 leak, stopped, by 1 container to 1 destination; 1001 events of "
                        "2 containers\n"));
}

TEST(Report, RowsAreBoundedAndStillCounted) {
  Report report;
  for (size_t port = 0; port < kMaxReportRows + 5; ++port) {
    json event = EventJson();
    event["destination"]["port"] = port;
    report.Add(Record(event));
  }
  const ReportSummary summary = report.Summary();
  EXPECT_EQ(summary.containers[0].rows.size(), kMaxReportRows);
  EXPECT_EQ(summary.leaks, kMaxReportRows + 5);
  EXPECT_EQ(summary.suppressed, 5);
  EXPECT_THAT(RenderText(summary, kTop), HasSubstr("... and 9950 more rows"));
}

TEST(Report, EmptyAndBrokenAreSaid) {
  Report report;
  EXPECT_EQ(RenderText(report.Summary(), kTop), "summary: no leaks; 0 events of 0 containers\n");
  report.AddBrokenLine();
  EXPECT_THAT(RenderText(report.Summary(), kTop), HasSubstr("; 1 line that is no event"));
}

TEST(Report, TextOfContainersIsEscapedInEveryForm) {
  Report report;
  json event = EventJson("c\n1");
  event["container"]["name"] = "w\x1b[2Jeb|<b>*";
  event["process"]["executable"] = "/bin/\n| deny";
  report.Add(Record(event));
  const ReportSummary summary = report.Summary();
  for (const std::string& text :
       {RenderText(summary, kTop), RenderJson(summary), RenderMarkdown(summary, kTop)}) {
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_THAT(text, Not(HasSubstr("/bin/\n")));
  }
  EXPECT_THAT(RenderMarkdown(summary, kTop), HasSubstr(R"(eb\|&lt;b\>\*)"));
  EXPECT_EQ(json::parse(RenderJson(summary))["containers"][0]["rows"][0]["process"],
            "/bin/\n| deny");
}

TEST(Report, JsonHasTheSummary) {
  Report report;
  report.Add(Record(EventJson()));
  report.AddBrokenLine();
  const json parsed = json::parse(RenderJson(report.Summary()));
  EXPECT_EQ(parsed["summary"]["leaks"], 1);
  EXPECT_EQ(parsed["summary"]["lines"], 2);
  EXPECT_EQ(parsed["summary"]["broken_lines"], 1);
  EXPECT_EQ(parsed["containers"][0]["rows"][0]["destination"], "10.1.2.3:80/tcp");
}

}  // namespace
}  // namespace oakum::cli
