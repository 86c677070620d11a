#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/report.h"
#include "oci/json.h"

namespace oakum::cli {

namespace {

using oci::Json;

std::string Count(uint64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string Leaks(uint64_t count) { return Count(count, "leak", "leaks"); }

std::string Verdict(const ReportRow& row) {
  return row.would.empty() ? row.verdict : fmt::format("{} (would {})", row.verdict, row.would);
}

// "12 leaks, all stopped"
std::string LeakWords(uint64_t leaks, uint64_t stopped) {
  if (leaks == 0) {
    return "no leaks";
  }
  return stopped == leaks ? fmt::format("{}, {}stopped", Leaks(leaks), leaks == 1 ? "" : "all ")
         : stopped == 0   ? fmt::format("{}, not stopped", Leaks(leaks))
                          : fmt::format("{}, {} of them stopped", Leaks(leaks), stopped);
}

std::string ContainerWords(const ReportContainer& container) {
  std::string words = container.name.empty() ? container.id : container.name;
  words = words.empty() ? "(none named)" : Escape(words);
  if (!container.name.empty() && container.id != container.name) {
    words += fmt::format(" ({})", Escape(container.id.substr(0, 12)));
  }
  if (!container.image.empty()) {
    words += fmt::format(", image {}", Escape(container.image));
  }
  if (!container.pod.empty()) {
    words += fmt::format(", pod {}/{}", Escape(container.ns), Escape(container.pod));
  }
  words += container.policy.empty() ? std::string(", no policy")
                                    : fmt::format(", policy {}", Escape(container.policy));
  return words;
}

std::string SummaryWords(const ReportSummary& summary, const ReportWords& names) {
  std::string words =
      summary.leaks == 0 ? std::string("no leaks")
                         : fmt::format("{}, by {} to {}", LeakWords(summary.leaks, summary.stopped),
                                       Count(summary.leaking_containers, names.one, names.many),
                                       Count(summary.destinations, "destination", "destinations"));
  words += fmt::format("; {} of {}", Count(summary.events, "event", "events"),
                       Count(summary.containers.size(), names.one, names.many));
  if (summary.suppressed != 0) {
    words += fmt::format(", {} of them counted but not shown", summary.suppressed);
  }
  if (summary.broken_lines != 0) {
    words += fmt::format("; {} that {} no event", Count(summary.broken_lines, "line", "lines"),
                         summary.broken_lines == 1 ? "is" : "are");
  }
  return words;
}

// "2026-11-24T20:34:44Z", which is all that a person wants to see.
std::string ShortTime(const std::string& time) {
  const size_t dot = time.find('.');
  return Escape(dot == std::string::npos ? time : time.substr(0, dot) + "Z");
}

std::array<std::string, 7> Cells(const ReportRow& row) {
  return {std::to_string(row.count),
          Escape(Verdict(row)),
          Escape(row.action),
          row.destination.empty() ? "-" : Escape(row.destination),
          row.process.empty() ? "-" : Escape(row.process),
          row.rule.empty() ? "-" : Escape(row.rule),
          row.first == row.last
              ? ShortTime(row.first)
              : fmt::format("{} .. {}", ShortTime(row.first), ShortTime(row.last))};
}

constexpr std::array<std::string_view, 7> kHeads = {"COUNT",   "VERDICT", "CALL", "DESTINATION",
                                                    "PROCESS", "RULE",    "TIME"};

void RenderTable(const std::vector<ReportRow>& rows, size_t top, std::string& out) {
  std::array<size_t, kHeads.size()> widths{};
  std::vector<std::array<std::string, kHeads.size()>> lines;
  for (size_t i = 0; i < kHeads.size(); ++i) {
    widths[i] = kHeads[i].size();
  }
  for (const ReportRow& row : rows) {
    if (lines.size() == top) {
      break;
    }
    lines.push_back(Cells(row));
    for (size_t i = 0; i < kHeads.size(); ++i) {
      widths[i] = std::max(widths[i], lines.back()[i].size());
    }
  }
  const auto line = [&](const auto& cells) {
    fmt::format_to(std::back_inserter(out), "  {:>{}}", cells[0], widths[0]);
    for (size_t i = 1; i + 1 < kHeads.size(); ++i) {
      fmt::format_to(std::back_inserter(out), "  {:<{}}", cells[i], widths[i]);
    }
    fmt::format_to(std::back_inserter(out), "  {}\n", cells.back());
  };
  line(kHeads);
  std::ranges::for_each(lines, line);
  if (rows.size() > lines.size()) {
    fmt::format_to(std::back_inserter(out), "  ... and {} more rows (--top)\n",
                   rows.size() - lines.size());
  }
}

// Inside a table cell of CommonMark with the table extension, also as HTML.
std::string Markdown(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      if (std::string_view("\\`*_[]|#>~!").contains(c)) {
        out += '\\';
      }
      out += c;
    }
  }
  return out;
}

Json RowJson(const ReportRow& row) {
  Json json;
  json["leak"] = row.leak;
  json["verdict"] = row.verdict;
  if (!row.would.empty()) {
    json["would"] = row.would;
  }
  json["action"] = row.action;
  json["destination"] = row.destination;
  json["process"] = row.process;
  json["rule"] = row.rule;
  json["count"] = row.count;
  json["first"] = row.first;
  json["last"] = row.last;
  return json;
}

Json ContainerJson(const ReportContainer& container) {
  Json json;
  json["id"] = container.id;
  json["name"] = container.name;
  json["image"] = container.image;
  json["namespace"] = container.ns;
  json["pod"] = container.pod;
  json["policy"] = container.policy;
  json["events"] = container.events;
  json["leaks"] = container.leaks;
  json["stopped"] = container.stopped;
  json["suppressed"] = container.suppressed;
  json["first"] = container.first;
  json["last"] = container.last;
  json["rows"] = Json::array();
  for (const ReportRow& row : container.rows) {
    json["rows"].push_back(RowJson(row));
  }
  return json;
}

}  // namespace

std::string RenderText(const ReportSummary& summary, size_t top, const ReportWords& words) {
  std::string out;
  for (const ReportContainer& container : summary.containers) {
    fmt::format_to(std::back_inserter(out), "{} {}\n", words.one, ContainerWords(container));
    fmt::format_to(std::back_inserter(out), "  {}; {}\n",
                   LeakWords(container.leaks, container.stopped),
                   Count(container.events, "event", "events"));
    RenderTable(container.rows, top, out);
    out += '\n';
  }
  fmt::format_to(std::back_inserter(out), "summary: {}\n", SummaryWords(summary, words));
  return out;
}

std::string RenderMarkdown(const ReportSummary& summary, size_t top) {
  std::string out =
      fmt::format("# Oakum report\n\n{}\n", Markdown(SummaryWords(summary, kContainerWords)));
  for (const ReportContainer& container : summary.containers) {
    fmt::format_to(std::back_inserter(out), "\n## {}\n\n{}\n\n",
                   Markdown(ContainerWords(container)),
                   Markdown(LeakWords(container.leaks, container.stopped)));
    out +=
        "| count | verdict | call | destination | process | rule | time |\n"
        "|--:|---|---|---|---|---|---|\n";
    size_t shown = 0;
    for (const ReportRow& row : container.rows) {
      if (shown++ == top) {
        fmt::format_to(std::back_inserter(out), "\nand {} more rows\n",
                       container.rows.size() - top);
        break;
      }
      for (const std::string& cell : Cells(row)) {
        fmt::format_to(std::back_inserter(out), "| {} ", Markdown(cell));
      }
      out += "|\n";
    }
  }
  return out;
}

std::string RenderJson(const ReportSummary& summary) {
  Json json;
  Json& head = json["summary"];
  head["lines"] = summary.lines;
  head["broken_lines"] = summary.broken_lines;
  head["events"] = summary.events;
  head["leaks"] = summary.leaks;
  head["stopped"] = summary.stopped;
  head["suppressed"] = summary.suppressed;
  head["destinations"] = summary.destinations;
  head["leaking_containers"] = summary.leaking_containers;
  head["first"] = summary.first;
  head["last"] = summary.last;
  json["containers"] = Json::array();
  for (const ReportContainer& container : summary.containers) {
    json["containers"].push_back(ContainerJson(container));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace oakum::cli
