// One guarded connect beside the least that an agent can do and beside no guard at all, in one run:
// `oakum-bench [--calls N] [--repeats N] [--json FILE]`. Times are per call, medians of interleaved
// repeats; ratios are those of the medians.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "agent/session/session_manager.h"
#include "base/file.h"
#include "bench/minimal_loop.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "test/unit/agent/guarded_process.h"

namespace oakum::bench {
namespace {

constexpr const char* kPolicies = R"({"version": 1, "policies": {"p": {"mode": "enforce",
    "outgoing": {"default": "deny", "allow": ["127.0.0.1"]}}}})";

// How one way of answering is set up around a child.
enum class Way : uint8_t { kNative, kMinimal, kMinimalSlowWakeUp, kOakum, kOakumSlowWakeUp };
constexpr std::array kWays = {Way::kNative, Way::kMinimal, Way::kMinimalSlowWakeUp, Way::kOakum,
                              Way::kOakumSlowWakeUp};

const char* Name(Way way) {
  switch (way) {
    case Way::kNative:
      return "no guard";
    case Way::kMinimal:
      return "minimal loop";
    case Way::kMinimalSlowWakeUp:
      return "minimal loop, no SYNC_WAKE_UP";
    case Way::kOakum:
      return "oakum";
    case Way::kOakumSlowWakeUp:
      return "oakum, no SYNC_WAKE_UP";
  }
  return "";
}

class Discard final : public agent::EventSink {
 public:
  void Push(agent::Event&& /*event*/) override {}
};

// Keeps nothing, but has sessions note what the next agent would need, as those of a real agent do.
class NoStore final : public agent::FdStore {
 public:
  Expected<void> Keep(const std::string& /*name*/, std::span<const int> /*fds*/) override {
    return {};
  }
  void Forget(const std::string& /*name*/) override {}
};

double Nanoseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int Connect(int fd, const sockaddr_in& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// Median and 99th percentile of a call's duration, in nanoseconds.
struct Figures {
  double median = 0;
  double p99 = 0;
  double mean = 0;
};

Figures Summarize(std::vector<double>& samples) {
  std::ranges::sort(samples);
  double sum = 0;
  for (const double sample : samples) {
    sum += sample;
  }
  return {samples[samples.size() / 2], samples[samples.size() * 99 / 100],
          sum / static_cast<double>(samples.size())};
}

// The measured programs: each connects `calls` times and writes its Figures to `output_fd`.
int UdpConnects(int output_fd, size_t calls) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in address = Loopback(9);
  std::vector<double> samples(calls);
  for (size_t i = 0; i < calls / 10; ++i) {
    Connect(fd, address);
  }
  for (double& sample : samples) {
    const double start = Nanoseconds();
    if (Connect(fd, address) != 0) {
      return 1;
    }
    sample = Nanoseconds() - start;
  }
  const Figures figures = Summarize(samples);
  return write(output_fd, &figures, sizeof figures) == sizeof figures ? 0 : 1;
}

int TcpConnects(int output_fd, size_t calls) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 16) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return 1;
  }
  const linger reset = {1, 0};  // no TIME_WAIT: ports do not run out
  std::vector<double> samples(calls);
  for (double& sample : samples) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const double start = Nanoseconds();
    if (Connect(fd, address) != 0) {
      return 1;
    }
    sample = Nanoseconds() - start;
    const int accepted = accept(listener, nullptr, nullptr);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    close(accepted);
  }
  const Figures figures = Summarize(samples);
  return write(output_fd, &figures, sizeof figures) == sizeof figures ? 0 : 1;
}

using Program = std::function<int(int output_fd, size_t calls)>;

// One run of `program` under `way`. Empty when it failed or when fewer calls than it claims were
// answered.
std::optional<Figures> RunOnce(Way way, const Program& program, size_t calls) {
  Discard discard;
  NoStore store;
  const Log log("oakum-bench", LogLevel::kError);
  const auto policies = policy::PolicySet::Parse(kPolicies, "bench");
  if (!policies) {
    fmt::print(stderr, "{}\n", policies.error().ToString());
    return std::nullopt;
  }
  const auto plan =
      way == Way::kNative ? oci::SeccompPlan{} : policy::Plan(*(*policies)->Find("p"));
  agent::GuardedProcess process(plan, [&](int fd) { return program(fd, calls); });
  std::optional<MinimalLoop> minimal;
  std::unique_ptr<agent::SessionManager> manager;
  const bool oakum = way == Way::kOakum || way == Way::kOakumSlowWakeUp;
  if (way == Way::kMinimal || way == Way::kMinimalSlowWakeUp) {
    minimal.emplace(process.TakeListener(), process.pid(), way == Way::kMinimal);
  } else if (oakum) {
    auto created = agent::SessionManager::Create(
        {.use_io_uring = true, .use_sync_wake_up = way == Way::kOakum, .store = &store}, *policies,
        discard, log);
    oci::ContainerProcessState state;
    state.id = "bench";
    state.metadata = policy::EncodeListenerMetadata({"p", {}});
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
  if (oakum && manager->Totals().calls < calls) {
    fmt::print(stderr, "{}: {} notifications for {} calls\n", Name(way), manager->Totals().calls,
               calls);
    return std::nullopt;
  }
  Figures figures;
  memcpy(&figures, output.data(), sizeof figures);
  return figures;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int Run(size_t calls, size_t repeats, const std::string& json_path) {
  const std::map<std::string, Program> programs = {{"connect, UDP", UdpConnects},
                                                   {"connect, TCP", TcpConnects}};
  nlohmann::ordered_json report;
  for (const auto& [title, program] : programs) {
    std::map<Way, std::vector<Figures>> runs;
    for (size_t i = 0; i < repeats; ++i) {
      for (const Way way : kWays) {
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
    fmt::print("  {:<32}{:>10}{:>10}{:>10}{:>12}{:>12}\n", "", "median", "mean", "p99", "x minimal",
               "x no guard");
    for (const Way way : kWays) {
      const double median = median_of(way, &Figures::median);
      const double mean = median_of(way, &Figures::mean);
      const double p99 = median_of(way, &Figures::p99);
      fmt::print("  {:<32}{:>7.2f} us{:>7.2f} us{:>7.2f} us{:>12.2f}{:>12.2f}\n", Name(way),
                 median / 1e3, mean / 1e3, p99 / 1e3, median / floor, median / native);
      report[title][Name(way)] = {{"median_ns", median},
                                  {"mean_ns", mean},
                                  {"p99_ns", p99},
                                  {"ratio_to_minimal", median / floor},
                                  {"ratio_to_native", median / native}};
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
  CLI::App app("Times one guarded connect beside a minimal loop and beside no guard");
  size_t calls = 20000;
  size_t repeats = 7;
  std::string json_path;
  app.add_option("--calls", calls, "calls in each run")->check(CLI::Range(100, 1000000));
  app.add_option("--repeats", repeats, "runs of each way, in turn")->check(CLI::Range(1, 100));
  app.add_option("--json", json_path, "write the figures there as well");
  CLI11_PARSE(app, argc, argv);
  return oakum::bench::Run(calls, repeats, json_path);
}
