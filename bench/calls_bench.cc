// Guarded calls beside the least that an agent can do and beside no guard at all, in one run:
// `oakum-bench [--only WORD] [--rows WORD] [--calls N] [--repeats N] [--json FILE]`. Times are per
// call, medians of interleaved repeats; ratios are those of the medians.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "agent/events/event_log.h"
#include "agent/session/session_manager.h"
#include "base/file.h"
#include "bench/minimal_loop.h"
#include "bench/programs.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "test/unit/agent/guarded_process.h"

namespace oakum::bench {
namespace {

// Loopback is allowed. `log`: what becomes an event. `rules`: so many addresses in all, and as many
// names; without, there are no names, which have to be looked for.
std::string PolicyText(const char* log, size_t rules) {
  std::string text = fmt::format(
      R"({{"version": 1, "policies": {{"p": {{"mode": "enforce", "log": "{}", "dns": "{}",
             "outgoing": {{"default": "deny", "allow": ["127.0.0.1")",
      log, rules == 0 ? "deny" : "allow");
  for (size_t i = 0; i < rules; ++i) {
    text += i == 0 ? "" : fmt::format(",\n\"11.{}.{}.1\"", i / 256, i % 256);
    text += fmt::format(",\n\"n{}.example.com:443\"", i);
  }
  return text + "]}}}}";
}

// How one way of answering is set up around a child.
enum class Way : uint8_t {
  kNative,
  kMinimal,
  kMinimalSlowWakeUp,
  kUsual,
  kOakum,
  kOakumSlowWakeUp,
  kOakumEvents,
  kOakumOneName,
  kOakumManyNames,
};
constexpr std::array kWays = {Way::kNative,
                              Way::kMinimal,
                              Way::kOakum,
                              Way::kOakumEvents,
                              Way::kOakumOneName,
                              Way::kOakumManyNames,
                              Way::kMinimalSlowWakeUp,
                              Way::kOakumSlowWakeUp,
                              Way::kUsual};
// Of calls that set a program up for those that are measured.
constexpr uint64_t kNotMeasured = 1;

const char* Name(Way way) {
  switch (way) {
    case Way::kNative:
      return "no guard";
    case Way::kMinimal:
      return "minimal loop";
    case Way::kMinimalSlowWakeUp:
      return "minimal loop, no SYNC_WAKE_UP";
    case Way::kUsual:
      return "agent loop as usual";
    case Way::kOakum:
      return "oakum";
    case Way::kOakumSlowWakeUp:
      return "oakum, no SYNC_WAKE_UP";
    case Way::kOakumEvents:
      return "oakum, an event for each";
    case Way::kOakumOneName:
      return "oakum, 1 address, 1 name";
    case Way::kOakumManyNames:
      return "oakum, 10,000 of both";
  }
  return "";
}

// Of the ways that are a loop.
std::optional<MinimalLoop::Manner> Loop(Way way) {
  switch (way) {
    case Way::kMinimal:
      return MinimalLoop::Manner::kMinimal;
    case Way::kMinimalSlowWakeUp:
      return MinimalLoop::Manner::kWithoutWakeUp;
    case Way::kUsual:
      return MinimalLoop::Manner::kAsUsual;
    case Way::kNative:
    case Way::kOakum:
    case Way::kOakumSlowWakeUp:
    case Way::kOakumEvents:
    case Way::kOakumOneName:
    case Way::kOakumManyNames:
      return std::nullopt;
  }
  return std::nullopt;
}

// Keeps nothing, but has sessions note what the next agent would need, as those of a real agent do.
class NoStore final : public agent::FdStore {
 public:
  Expected<void> Keep(const std::string& /*name*/, std::span<const int> /*fds*/) override {
    return {};
  }
  void Forget(const std::string& /*name*/) override {}
  bool KeepsAtOnce() const override { return true; }
};

// One run of `program` under `way`. Empty when it failed or when fewer calls than it claims were
// answered.
std::optional<Figures> RunOnce(Way way, const Program& program, size_t calls) {
  NoStore store;
  const Log log("oakum-bench", LogLevel::kError);
  const auto events = agent::EventLog::Create({.path = "/dev/null"}, log);
  const auto policies = policy::PolicySet::Parse(
      PolicyText(way == Way::kOakumEvents ? "all" : "leaks", way == Way::kOakumOneName     ? 1
                                                             : way == Way::kOakumManyNames ? 10'000
                                                                                           : 0),
      "bench");
  if (!policies || !events) {
    fmt::print(stderr, "{}\n", (!policies ? policies.error() : events.error()).ToString());
    return std::nullopt;
  }
  const auto plan =
      way == Way::kNative ? oci::SeccompPlan{} : policy::Plan(*(*policies)->Find("p"));
  agent::GuardedProcess process(plan, [&](int fd) { return program.run(fd, calls); });
  std::optional<MinimalLoop> minimal;
  std::unique_ptr<agent::SessionManager> manager;
  const auto loop = Loop(way);
  const bool oakum = way != Way::kNative && !loop;
  if (loop) {
    minimal.emplace(process.TakeListener(), process.pid(), *loop);
  } else if (oakum) {
    auto created = agent::SessionManager::Create(
        {.use_sync_wake_up = way != Way::kOakumSlowWakeUp, .store = &store}, *policies, **events,
        log);
    oci::ContainerProcessState state;
    state.id = "bench";
    state.metadata = policy::EncodeListenerMetadata({"p", {}, policy::RecordOf(plan)});
    if (!created || !(*created)->Attach(state, process.TakeListener())) {
      return std::nullopt;
    }
    manager = std::move(*created);
  }
  process.Go();
  std::string output;
  const int status = process.Wait(&output);
  if (status != 0 || output.size() != sizeof(Figures)) {
    fmt::print(stderr, "{}: the measured program failed ({})\n", Name(way), status);
    return std::nullopt;
  }
  const uint64_t notified = oakum ? manager->Totals().calls : 0;
  if (oakum && (notified < program.Notifications(calls) ||
                (program.Notifications(calls) == 0 && notified > kNotMeasured))) {
    fmt::print(stderr, "{}, {}: {} notifications for {} calls\n", program.title, Name(way),
               notified, calls);
    return std::nullopt;
  }
  if (way == Way::kOakumEvents) {
    const auto stats = (*events)->Stats();
    uint64_t pushed = 0;
    for (const uint64_t count : stats.pushed) {
      pushed += count;
    }
    if (pushed < program.Notifications(calls)) {
      fmt::print(stderr, "{}: {} events for {} calls\n", Name(way), pushed, calls);
      return std::nullopt;
    }
  }
  Figures figures;
  memcpy(&figures, output.data(), sizeof figures);
  return figures;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int Run(size_t calls, size_t repeats, const std::string& only, const std::string& rows,
        const std::string& json_path) {
  nlohmann::ordered_json report;
  const bool one = std::ranges::find(kWays, rows, Name) != kWays.end();
  std::vector<Way> ways;
  std::ranges::copy_if(kWays, std::back_inserter(ways), [&](Way way) {
    const std::string_view name = Name(way);
    return way == Way::kNative || way == Way::kMinimal ||
           (one ? name == rows : name.contains(rows));
  });
  for (const Program& program : Programs()) {
    const std::string title = program.title;
    if (!title.contains(only)) {
      continue;
    }
    std::map<Way, std::vector<Figures>> runs;
    for (size_t i = 0; i < repeats; ++i) {
      for (const Way way : ways) {
        const auto figures = RunOnce(way, program, calls);
        if (!figures) {
          return 1;
        }
        runs[way].push_back(*figures);
      }
    }
    const auto median_of = [&](Way way, double Figures::* field) {
      std::vector<double> values;
      for (const Figures& figures : runs[way]) {
        values.push_back(figures.*field);
      }
      return Median(values);
    };
    const double floor = median_of(Way::kMinimal, &Figures::median);
    const double native = median_of(Way::kNative, &Figures::median);
    fmt::print("{} ({} calls, {} repeats)\n", title, calls, repeats);
    const double oakum = runs.contains(Way::kOakum) ? median_of(Way::kOakum, &Figures::mean) : 0;
    fmt::print("  {:<32}{:>10}{:>10}{:>10}{:>12}{:>12}{:>14}\n", "", "median", "mean", "p99",
               "x minimal", "x no guard", "mean x oakum");
    for (const Way way : ways) {
      const double median = median_of(way, &Figures::median);
      const double mean = median_of(way, &Figures::mean);
      const double p99 = median_of(way, &Figures::p99);
      fmt::print("  {:<32}{:>7.2f} us{:>7.2f} us{:>7.2f} us{:>12.2f}{:>12.2f}{:>14}\n", Name(way),
                 median / 1e3, mean / 1e3, p99 / 1e3, median / floor, median / native,
                 oakum == 0 ? "" : fmt::format("{:.2f}", mean / oakum));
      report[title][Name(way)] = {{"median_ns", median},
                                  {"mean_ns", mean},
                                  {"p99_ns", p99},
                                  {"ratio_to_minimal", median / floor},
                                  {"ratio_to_native", median / native}};
      if (oakum != 0) {
        report[title][Name(way)]["mean_ratio_to_oakum"] = mean / oakum;
      }
    }
  }
  if (!json_path.empty()) {
    if (auto written = ReplaceFile(json_path, report.dump(2) + "\n"); !written) {
      fmt::print(stderr, "oakum-bench: {}\n", written.error().ToString());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace oakum::bench

int main(int argc, char** argv) {
  CLI::App app("Times guarded calls beside a minimal loop and beside no guard");
  size_t calls = 20000;
  size_t repeats = 7;
  std::string only;
  std::string rows;
  std::string json_path;
  app.add_option("--only", only, "the tables with this in their title");
  app.add_option("--rows", rows,
                 "of their rows the first two, and this one, or those with this in their name");
  app.add_option("--calls", calls, "calls in each run")->check(CLI::Range(100, 1000000));
  app.add_option("--repeats", repeats, "runs of each way, in turn")->check(CLI::Range(1, 100));
  app.add_option("--json", json_path, "write the figures there as well");
  CLI11_PARSE(app, argc, argv);
  return oakum::bench::Run(calls, repeats, only, rows, json_path);
}
