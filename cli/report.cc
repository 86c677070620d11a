#include "cli/report.h"

#include <algorithm>
#include <utility>

namespace oakum::cli {

namespace {

bool IsStopped(const std::string& verdict) { return verdict == "deny" || verdict == "kill"; }

void Widen(const EventRecord& event, std::string& first, std::string& last) {
  if (first.empty() || event.start < first) {
    first = event.start;
  }
  last = std::max(last, event.time);
}

}  // namespace

void Report::Add(const EventRecord& event) {
  ++lines_;
  Container& container = containers_[{event.container_id, event.policy}];
  ReportContainer& facts = container.facts;
  facts.id = event.container_id;
  facts.name = event.container_name;
  facts.image = event.image;
  facts.ns = event.ns;
  facts.pod = event.pod;
  facts.policy = event.policy;
  facts.events += event.StandsFor();
  facts.suppressed += event.others;
  if (event.leak) {
    facts.leaks += event.StandsFor();
    facts.stopped += IsStopped(event.verdict) ? event.StandsFor() : 0;
  }
  Widen(event, facts.first, facts.last);
  if (event.count == 0) {
    return;  // of other events alone
  }

  const std::string& process = event.executable.empty() ? event.process_name : event.executable;
  const RowKey key(event.leak, event.verdict, event.would, event.action, event.destination, process,
                   event.rule);
  auto found = container.rows.find(key);
  if (found == container.rows.end()) {
    if (container.rows.size() >= kMaxReportRows) {
      facts.suppressed += event.count;
      return;
    }
    ReportRow row;
    row.leak = event.leak;
    row.verdict = event.verdict;
    row.would = event.would;
    row.action = event.action;
    row.destination = event.destination;
    row.process = process;
    row.rule = event.rule;
    found = container.rows.emplace(key, std::move(row)).first;
  }
  found->second.count += event.count;
  Widen(event, found->second.first, found->second.last);
}

ReportSummary Report::Summary() const {
  ReportSummary summary;
  summary.lines = lines_;
  summary.broken_lines = broken_lines_;
  std::set<std::string> destinations;
  for (const auto& [key, container] : containers_) {
    ReportContainer facts = container.facts;
    for (const auto& [row_key, row] : container.rows) {
      facts.rows.push_back(row);
      if (row.leak) {
        destinations.insert(row.destination);
      }
    }
    std::ranges::stable_sort(facts.rows, [](const ReportRow& a, const ReportRow& b) {
      return std::tuple(!a.leak, b.count) < std::tuple(!b.leak, a.count);
    });
    summary.events += facts.events;
    summary.leaks += facts.leaks;
    summary.stopped += facts.stopped;
    summary.suppressed += facts.suppressed;
    summary.leaking_containers += facts.leaks != 0 ? 1 : 0;
    if (summary.first.empty() || facts.first < summary.first) {
      summary.first = facts.first;
    }
    summary.last = std::max(summary.last, facts.last);
    summary.containers.push_back(std::move(facts));
  }
  summary.destinations = destinations.size();
  std::ranges::stable_sort(summary.containers,
                           [](const auto& a, const auto& b) { return a.leaks > b.leaks; });
  return summary;
}

}  // namespace oakum::cli
