// What bench/instructions has valgrind count: `oakum-instructions WORK --calls N`. The instructions
// of two runs differ by those of the calls that one of them makes more.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <thread>

#include "agent/session/session_manager.h"
#include "bench/stub_kernel.h"
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

}  // namespace
}  // namespace oakum::bench

int main(int argc, char** argv) {
  CLI::App app("Makes calls whose instructions are counted");
  std::string work;
  uint64_t calls = 1000;
  app.add_option("work", work)
      ->required()
      ->check(CLI::IsMember({"decide", "answer", "event", "compiler"}));
  app.add_option("--calls", calls)->check(CLI::Range(1, 10'000'000));
  CLI11_PARSE(app, argc, argv);
  if (work == "compiler") {
    fmt::print("{}\n", OAKUM_COMPILER);
    return 0;
  }
  const int status =
      work == "decide" ? oakum::bench::Decide(calls) : oakum::bench::Answer(calls, work == "event");
  if (status != 0) {
    fmt::print(stderr, "oakum-instructions: not all of the {} calls were answered as they should\n",
               calls);
  }
  return status;
}
