// What bench/instructions has valgrind count: `oakum-instructions WORK --calls N`. The instructions
// of two runs differ by those of the calls that one of them makes more.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <thread>

#include "agent/session/session_manager.h"
#include "base/file.h"
#include "bench/stub_kernel.h"
#include "hook/guard.h"
#include "hook/merge_cache.h"
#include "policy/plan.h"
#include "policy/policy_set.h"

namespace oakum::bench {
namespace {

// Of 10,000 rules, as decide() is measured with; `log`: what becomes an event.
std::string PolicyText(size_t rules, const char* log) {
  std::string text = fmt::format(
      R"({{"version": 1, "policies": {{"p": {{"mode": "enforce", "log": "{}", "outgoing": {{
             "default": "deny", "allow": ["127.0.0.1")",
      log);
  for (size_t i = 1; i < rules; ++i) {
    text += fmt::format(",\n\"11.{}.{}.1:80,443\"", i / 256, i % 256);
  }
  return text + "]}}}}";
}

std::shared_ptr<const policy::PolicySet> Parse(const std::string& text) {
  auto set = policy::PolicySet::Parse(text, "instructions");
  if (!set) {
    fmt::print(stderr, "{}\n", set.error().ToString());
    std::exit(1);
  }
  return *set;
}

class Discard final : public agent::EventSink {
 public:
  void Push(agent::Event&& /*event*/) override { ++pushed_; }
  [[nodiscard]] uint64_t pushed() const { return pushed_; }

 private:
  std::atomic<uint64_t> pushed_{0};
};

// Has sessions note what the next agent would need, as those of a real agent do.
class NoStore final : public agent::FdStore {
 public:
  Expected<void> Keep(const std::string& /*name*/, std::span<const int> /*fds*/) override {
    return {};
  }
  void Forget(const std::string& /*name*/) override {}
  bool KeepsAtOnce() const override { return true; }
};

int Decide(uint64_t calls) {
  const auto set = Parse(PolicyText(10'000, "leaks"));
  const policy::Policy& policy = *set->Find("p");
  const policy::InetRequest request = {
      .operation = policy::Operation::kConnect,
      .transport = policy::Transport::kTcp,
      .remote = {.ip = policy::IpAddress::FromV4({11, 20, 20, 1}), .port = 443},
      .local = {}};
  uint64_t allowed = 0;
  for (uint64_t i = 0; i < calls; ++i) {
    allowed += policy.Decide(request).verdict == policy::Verdict::kAllow ? 1 : 0;
  }
  return allowed == calls ? 0 : 1;
}

int Answer(uint64_t calls, bool events) {
  const UniqueFd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  UniqueFd listener = MakeStubListener(
      {socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address, calls});
  const auto policies = Parse(PolicyText(1, events ? "all" : "leaks"));
  Discard discard;
  NoStore store;
  const Log log("oakum-instructions", LogLevel::kError);
  auto manager = agent::SessionManager::Create({.use_io_uring = false, .store = &store}, policies,
                                               discard, log);
  oci::ContainerProcessState state;
  state.id = "bench";
  state.metadata = policy::EncodeListenerMetadata({"p", {}});
  if (!manager || !(*manager)->Attach(state, std::move(listener))) {
    return 1;
  }
  while (StubAnswered() + StubFailed() < calls) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  manager->reset();
  return StubAnswered() == calls && discard.pushed() == (events ? calls : 0) ? 0 : 1;
}

// What oakum-hook and oakum-runtime do with a config.json: `cache` empty, with a profile that is
// new each time; otherwise with one that was merged before and is kept in that directory.
int Start(uint64_t calls, const std::string& config_path, const std::string& cache_directory) {
  // libseccomp asks the kernel for what it can do, and valgrind would say that it can do nothing.
  constexpr unsigned int kWithNotifications = 5;  // seccomp_api_get(3)
  if (seccomp_api_set(kWithNotifications) != 0) {
    return 1;
  }
  const auto policies = Parse(
      R"({"version": 1, "policies": {"p": {"mode": "enforce", "outgoing": {
         "default": "deny", "allow": ["10.0.0.0/8"]}}},
         "containers": [{"match": {}, "policy": "p"}]})");
  const auto config = ReadFile(config_path, hook::kMaxConfigJson);
  if (!config) {
    fmt::print(stderr, "{}\n", config.error().ToString());
    return 1;
  }
  const hook::MergeCache cache(cache_directory);
  const hook::MergeCache* const used = cache_directory.empty() ? nullptr : &cache;
  const hook::Origin origin = {.bundle = "/run/io.containerd.runtime.v2.task/default/bench",
                               .container_id = "bench"};
  // The first one is what is found later.
  for (uint64_t i = 0; i < calls + 1; ++i) {
    const auto guarded = hook::GuardConfig(*config, origin, *policies, "/run/oakum/agent.sock", {},
                                           used, {"SCMP_ARCH_X32"});
    if (!guarded || !guarded->contains("listenerMetadata")) {
      fmt::print(stderr, "{}\n", guarded ? *guarded : guarded.error().ToString());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace oakum::bench

int main(int argc, char** argv) {
  CLI::App app("Makes calls whose instructions are counted");
  std::string work;
  uint64_t calls = 1000;
  app.add_option("work", work)
      ->required()
      ->check(CLI::IsMember({"decide", "answer", "event", "start", "merge", "compiler"}));
  app.add_option("--calls", calls)->check(CLI::Range(1, 10'000'000));
  std::string config;
  std::string directory;
  app.add_option("--config", config, "of start and merge: a container's config.json");
  app.add_option("--directory", directory, "of start: where what was merged is kept");
  CLI11_PARSE(app, argc, argv);
  if (work == "compiler") {
    fmt::print("{}\n", OAKUM_COMPILER);
    return 0;
  }
  const int status = work == "decide"  ? oakum::bench::Decide(calls)
                     : work == "start" ? oakum::bench::Start(calls, config, directory)
                     : work == "merge" ? oakum::bench::Start(calls, config, {})
                                       : oakum::bench::Answer(calls, work == "event");
  if (status != 0) {
    fmt::print(stderr, "oakum-instructions: not all of the {} calls were answered as they should\n",
               calls);
  }
  return status;
}
