// How many queries a second the agent answers by itself ("resolve": "synthetic"), on one thread,
// from the query's bytes to the answer's. One run; the system calls that bring a query and take its
// answer away are not in it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/dns/host_name.h"
#include "agent/dns/message.h"
#include "agent/dns/names.h"
#include "agent/dns/resolver.h"
#include "agent/proxy/upstreams.h"
#include "agent/server/event_loop.h"
#include "base/file.h"

namespace {

namespace dns = oakum::agent::dns;
using oakum::agent::DnsContext;
using oakum::agent::DnsReply;
using oakum::agent::DnsTransport;
using oakum::agent::EventLoop;
using oakum::agent::Names;
using oakum::agent::Resolver;
using oakum::agent::Upstreams;

// Time of this thread alone, so that a busy machine does not count.
std::chrono::duration<double> Now() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// What glibc sends: A and AAAA in turn, with EDNS.
std::vector<std::string> Queries(size_t names) {
  std::vector<std::string> queries;
  for (size_t i = 0; i < names; ++i) {
    for (const char type : {'\x01', '\x1c'}) {
      queries.push_back(std::string("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01", 12) +
                        dns::WireName(fmt::format("host{}.example.com", i)).value() + '\0' + type +
                        std::string("\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00", 13));
    }
  }
  return queries;
}

// The fastest of `repeats` rounds, in queries a second.
double Time(Resolver& resolver, const DnsContext& context, const std::vector<std::string>& queries,
            size_t count, int repeats) {
  double best = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    size_t answered = 0;
    const auto start = Now();
    for (size_t i = 0; i < count; ++i) {
      const std::string& query = queries[i % queries.size()];
      resolver.Answer(query, DnsTransport::kUdp, context, [&](const DnsReply& reply) {
        answered += reply.message.size() > query.size() ? 1 : 0;
      });
    }
    const auto spent = Now() - start;
    if (answered != count) {
      fmt::print(stderr, "{} of {} queries were answered: this measures nothing\n", answered,
                 count);
      std::exit(1);
    }
    best = std::max(best, static_cast<double>(count) / spent.count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  size_t count = 200'000;
  int repeats = 5;
  CLI::App app("Times synthetic DNS answers");
  app.add_option("--queries", count, "queries in each round")->check(CLI::Range(1000, 100'000'000));
  app.add_option("--repeats", repeats, "rounds, of which the fastest counts")
      ->check(CLI::Range(1, 100));
  std::string json_path;
  app.add_option("--json", json_path, "write the figures there as well");
  CLI11_PARSE(app, argc, argv);
  nlohmann::ordered_json report;

  const auto loop = EventLoop::Create();
  if (!loop) {
    fmt::print(stderr, "{}\n", loop.error().ToString());
    return 1;
  }
  oakum::policy::DnsSettings settings;
  settings.rule = oakum::policy::DnsRule::kProxy;
  settings.resolve = oakum::policy::Resolve::kSynthetic;
  DnsContext context;
  context.settings = &settings;
  // Few names as a program has, as many as the pool holds, and more: each query then takes the
  // place of the name used longest ago.
  for (const size_t names : {size_t{100}, Names::kMaxSynthetic, 2 * Names::kMaxSynthetic}) {
    Upstreams upstreams;
    Names pool;
    Resolver resolver({.loop = loop->get(),
                       .upstreams = &upstreams,
                       .names = &pool,
                       .dial = {},
                       .credentials = {},
                       .take_slot = {},
                       .resolv_conf = {}});
    const auto queries = Queries(std::min(names, count));
    (void)Time(resolver, context, queries, std::min(count, queries.size()), 1);
    const double rate = Time(resolver, context, queries, count, repeats);
    fmt::print("synthetic, {:>6} names: {:>9.0f} queries/s\n", names, rate);
    report[fmt::format("synthetic, {} names", names)] = {{"per_second", rate}};
  }
  if (!json_path.empty()) {
    if (auto written = oakum::ReplaceFile(json_path, report.dump(2) + "\n"); !written) {
      fmt::print(stderr, "oakum-dns-bench: {}\n", written.error().ToString());
      return 1;
    }
  }
  return 0;
}
