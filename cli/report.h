// What a number of events say: which containers leaked, where to, how often.
#ifndef OAKUM_CLI_REPORT_H_
#define OAKUM_CLI_REPORT_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "cli/event_record.h"

namespace oakum::cli {

// Different rows of one container that are kept; the events of others are counted only.
inline constexpr size_t kMaxReportRows = 10'000;

struct ReportRow {
  bool leak = false;
  std::string verdict;
  std::string would;
  std::string action;
  std::string destination;
  std::string process;  // executable, or the name where that is unknown
  std::string rule;
  uint64_t count = 0;
  std::string first;
  std::string last;
};

struct ReportContainer {
  std::string id;
  std::string name;
  std::string image;
  std::string ns;
  std::string pod;
  std::string policy;
  uint64_t events = 0;
  uint64_t leaks = 0;
  uint64_t stopped = 0;     // leaks that were denied or ended the container
  uint64_t suppressed = 0;  // events that no row shows
  std::string first;
  std::string last;
  std::vector<ReportRow> rows;  // leaks first, then by count
};

struct ReportSummary {
  uint64_t lines = 0;
  uint64_t broken_lines = 0;
  uint64_t events = 0;
  uint64_t leaks = 0;
  uint64_t stopped = 0;
  uint64_t suppressed = 0;
  uint64_t destinations = 0;  // different ones of leaks
  uint64_t leaking_containers = 0;
  std::string first;
  std::string last;
  std::vector<ReportContainer> containers;  // those that leaked most first
};

// Adds up events in any order.
class Report {
 public:
  void Add(const EventRecord& event);
  void AddBrokenLine() { ++lines_, ++broken_lines_; }
  [[nodiscard]] ReportSummary Summary() const;

 private:
  using RowKey = std::tuple<bool, std::string, std::string, std::string, std::string, std::string,
                            std::string>;
  struct Container {
    ReportContainer facts;
    std::map<RowKey, ReportRow> rows;
  };

  uint64_t lines_ = 0;
  uint64_t broken_lines_ = 0;
  std::map<std::pair<std::string, std::string>, Container> containers_;  // by id and policy
};

// What a report calls those that it is about.
struct ReportWords {
  std::string_view one;
  std::string_view many;
};
inline constexpr ReportWords kContainerWords = {"container", "containers"};
inline constexpr ReportWords kProgramWords = {"program", "programs"};

// `top` rows of a container are shown. Text of containers is escaped for a terminal, for JSON and
// for Markdown.
[[nodiscard]] std::string RenderText(const ReportSummary& summary, size_t top,
                                     const ReportWords& words = kContainerWords);
[[nodiscard]] std::string RenderJson(const ReportSummary& summary);
[[nodiscard]] std::string RenderMarkdown(const ReportSummary& summary, size_t top);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_REPORT_H_
