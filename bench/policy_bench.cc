// What a decision costs with one address rule and with many, and how long a large policy takes to
// load. One run, printed as ratios: absolute times depend on the machine.
#include <fmt/format.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "policy/policy_set.h"

namespace {

using oakum::policy::InetRequest;
using oakum::policy::IpAddress;
using oakum::policy::PolicySet;
using oakum::policy::Verdict;

constexpr uint64_t kSeed = 20240607;

// Time of this thread alone, so that a busy machine does not count.
std::chrono::nanoseconds Now() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// Addresses of one container's peers: few enough to stay in the cache, as they do in a container.
constexpr size_t kPeers = 64;

IpAddress RandomAddress(std::mt19937_64& random) {
  const uint64_t bits = random();
  // 11.0.0.0 to 126.255.255.255: neither loopback, private 10/8 nor multicast.
  return IpAddress::FromV4({static_cast<uint8_t>(11 + bits % 116), static_cast<uint8_t>(bits >> 8),
                            static_cast<uint8_t>(bits >> 16), static_cast<uint8_t>(bits >> 24)});
}

// A policy that allows the first `rules` of the addresses, some with ports.
std::string PolicyText(const std::vector<IpAddress>& addresses, size_t rules) {
  std::string text =
      R"({"version": 1, "policies": {"p": {"mode": "enforce", "outgoing": {"allow": [)";
  for (size_t i = 0; i < rules; ++i) {
    text += fmt::format("{}\"{}{}\"\n", i == 0 ? "" : ",", addresses[i].ToString(),
                        i % 4 == 1 ? ":80,443/tcp" : "");
  }
  return text + "]}}}}";
}

// A policy that allows the first `rules` of as many names, every other one with what is below it.
std::string NamesText(size_t rules) {
  std::string text =
      R"({"version": 1, "policies": {"p": {"mode": "enforce", "dns": "allow", "outgoing": {"allow": [)";
  for (size_t i = 0; i < rules; ++i) {
    text +=
        fmt::format("{}\"{}n{}.example.com:443\"\n", i == 0 ? "" : ",", i % 2 == 1 ? "*." : "", i);
  }
  return text + "]}}}}";
}

std::shared_ptr<const PolicySet> Parse(const std::string& text) {
  auto set = PolicySet::Parse(text, "bench.json");
  if (!set) {
    fmt::print(stderr, "{}\n", set.error().what);
    std::exit(1);
  }
  return *set;
}

// The fastest of `repeats` rounds, in nanoseconds a decision.
double TimeRequests(const PolicySet& set, const std::vector<InetRequest>& requests, size_t calls,
                    int repeats) {
  const oakum::policy::Policy& policy = *set.Find("p");
  double best = std::numeric_limits<double>::max();
  size_t allowed = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = Now();
    for (size_t i = 0; i < calls; ++i) {
      allowed += policy.Decide(requests[i % requests.size()]).verdict == Verdict::kAllow ? 1 : 0;
    }
    const std::chrono::duration<double, std::nano> spent = Now() - start;
    best = std::min(best, spent.count() / static_cast<double>(calls));
  }
  if (allowed == 0) {
    fmt::print(stderr, "nothing was allowed: this measures nothing\n");
    std::exit(1);
  }
  return best;
}

InetRequest Connect(const IpAddress& peer) {
  return {.operation = oakum::policy::Operation::kConnect,
          .transport = oakum::policy::Transport::kTcp,
          .remote = {.ip = peer, .port = 443},
          .local = {}};
}

double TimeDecisions(const PolicySet& set, const std::vector<IpAddress>& peers, size_t calls,
                     int repeats) {
  std::vector<InetRequest> requests;
  requests.reserve(peers.size());
  for (const IpAddress& peer : peers) {
    requests.push_back(Connect(peer));
  }
  return TimeRequests(set, requests, calls, repeats);
}

// Of connections to one name, which each policy allows.
double TimeNames(const PolicySet& set, const IpAddress& peer, size_t calls, int repeats) {
  const std::vector<std::string> names = {"n0.example.com"};
  InetRequest request = Connect(peer);
  request.names = names;
  return TimeRequests(set, {request}, calls, repeats);
}

double TimeLoad(const std::string& text, int repeats) {
  double best = std::numeric_limits<double>::max();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = Now();
    const auto set = Parse(text);
    const std::chrono::duration<double, std::milli> spent = Now() - start;
    best = std::min(best, spent.count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  size_t calls = 20'000;
  int repeats = 100;
  CLI::App app("Times policy decisions and loading");
  app.add_option("--calls", calls, "decisions in each round")->check(CLI::Range(1000, 100'000'000));
  app.add_option("--repeats", repeats, "rounds, of which the fastest counts")
      ->check(CLI::Range(1, 100));
  std::string json_path;
  app.add_option("--json", json_path, "write the figures there as well");
  CLI11_PARSE(app, argc, argv);
  nlohmann::ordered_json report;

  std::mt19937_64 random(kSeed);
  std::vector<IpAddress> addresses;
  for (size_t i = 0; i < 100'000; ++i) {
    addresses.push_back(RandomAddress(random));
  }
  // Peers that the rules of every size decide about: the first rule's address, and others beside
  // it, so that each look-up goes down to a rule's own prefix in all of them.
  std::vector<IpAddress> peers(kPeers, addresses[0]);
  std::vector<IpAddress> spread(addresses.begin(), addresses.begin() + 10'000);
  std::shuffle(spread.begin(), spread.end(), random);

  double one = 0;
  for (const size_t rules : {1, 100, 10'000, 100'000}) {
    const auto set = Parse(PolicyText(addresses, rules));
    const double spent = TimeDecisions(*set, peers, calls, repeats);
    one = rules == 1 ? spent : one;
    fmt::print("decide, {:>6} rules: {:6.1f} ns, ratio {:.2f}\n", rules, spent, spent / one);
    report[fmt::format("decide, {} rules", rules)] = {{"ns", spent}, {"ratio", spent / one}};
  }
  const auto many = Parse(PolicyText(addresses, 10'000));
  const double cold = TimeDecisions(*many, spread, calls, repeats);
  fmt::print("decide,  10000 rules, 10000 different peers (cold): {:6.1f} ns\n", cold);
  report["decide, 10000 rules, 10000 different peers"] = {{"ns", cold}};
  for (const size_t rules : {1, 100, 10'000}) {
    const double spent = TimeNames(*Parse(NamesText(rules)), addresses[0], calls, repeats);
    one = rules == 1 ? spent : one;
    fmt::print("decide, {:>6} names: {:6.1f} ns, ratio {:.2f}\n", rules, spent, spent / one);
    report[fmt::format("decide, {} names", rules)] = {{"ns", spent}, {"ratio", spent / one}};
  }
  const double load = TimeLoad(PolicyText(addresses, 100'000), std::min(repeats, 5));
  fmt::print("load,   100000 rules: {:6.1f} ms\n", load);
  report["load, 100000 rules"] = {{"ms", load}};
  if (!json_path.empty()) {
    if (auto written = oakum::ReplaceFile(json_path, report.dump(2) + "\n"); !written) {
      fmt::print(stderr, "oakum-policy-bench: {}\n", written.error().ToString());
      return 1;
    }
  }
  return 0;
}
