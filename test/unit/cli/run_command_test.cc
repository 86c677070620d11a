#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "cli/guarded_program.h"
#include "cli/oakum.h"
#include "cli/run_sink.h"
#include "policy/plan.h"
#include "policy/policy_set.h"

namespace oakum::cli {
namespace {

using ::testing::HasSubstr;

struct Result {
  int status;
  std::string err;
};

Result RunWith(std::vector<const char*> words) {
  words.insert(words.begin(), {"oakum", "run"});
  std::ostringstream out;
  std::ostringstream err;
  Context context{.out = out, .err = err};
  const int status = RunOakum(static_cast<int>(words.size()), words.data(), context);
  return {status, err.str()};
}

// None of these starts a program.
TEST(RunCommand, UsageErrorsAreOneLineThatSaysWhatIsWrong) {
  const std::vector<std::pair<std::vector<const char*>, const char*>> cases = {
      {{"true"}, "or --proxy URL to carry everything"},
      {{"--mode", "audit"}, "command is required"},
      {{"--mode", "deny", "true"}, "--mode"},
      {{"--allow", "10.0.0.1", "true"}, "--mode"},
      {{"--name", "x", "--mode", "audit", "true"}, "--name names a policy of a file"},
      {{"--policy", "/x", "--mode", "audit", "true"}, "the file says all of it"},
      {{"--policy", "/x", "--deny", "10.0.0.1", "true"}, "the file says all of it"},
      {{"--proxy", "socks5h://me:secret@127.0.0.1", "true"}, "--proxy: no port in"},
      {{"--proxy", "socks6://me:secret@127.0.0.1:1", "true"}, "did you mean \"socks5\"?"},
      {{"--proxy", "@/no/such/file", "true"}, "/no/such/file"},
      {{"--proxy", "socks5h://127.0.0.1:9050", "--policy", "/x", "true"}, "names its proxies"},
      {{"--proxy", "socks5h://127.0.0.1:9050", "--isolate", "all", "true"}, "--isolate"},
      {{"--proxy", "socks5h://127.0.0.1:9050", "--resolve", "dns", "true"},
       "no value of \"resolve\""},
      {{"--proxy", "socks5h://me:secret@127.0.0.1:1", "--isolate", "process", "true"},
       "makes user and password up"},
      {{"--mode", "audit", "--isolate", "process", "true"}, "say how --proxy is used"},
      {{"--mode", "audit", "--allow", "10.0.0.0/33", "true"}, "--allow \"10.0.0.0/33\": "},
      {{"--mode", "audit", "--deny", "10.0.0.1:http", "true"}, "--deny \"10.0.0.1:http\": "},
      {{"--mode", "audit", "--allow", "example.com", "true"}, "a rule for a name"},
      {{"--policy", "/no/such/file", "true"}, "/no/such/file"},
      {{"--no-such-option", "true"}, "--no-such-option"},
  };
  for (const auto& [words, expected] : cases) {
    const Result result = RunWith(words);
    EXPECT_EQ(result.status, kUsage) << expected;
    EXPECT_THAT(result.err, HasSubstr(expected));
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_EQ(result.err.find("secret"), std::string::npos) << result.err;
  }
}

TEST(OwnFilter, NotifiesOfConnectOnEveryArchitecture) {
  const auto set = policy::PolicySet::Parse(
      R"({"version": 1, "policies": {"p": {"mode": "enforce", "outgoing": {"default": "deny"}}}})",
      "test");
  ASSERT_TRUE(set) << set.error().what;
  const auto filter = OwnFilter(policy::Plan(*(*set)->Find("p")));
  ASSERT_TRUE(filter) << filter.error().what;
  const auto action = [&](uint32_t arch, long number) {
    seccomp_data data = {};
    data.arch = arch;
    data.nr = static_cast<int>(number);
    return oci::RunBpf(*filter, data);
  };
#if defined(__x86_64__)
  EXPECT_EQ(action(AUDIT_ARCH_X86_64, SYS_connect), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(action(AUDIT_ARCH_X86_64, SYS_getpid), SECCOMP_RET_ALLOW);
  constexpr long kI386Connect = 362;
  constexpr long kI386Socketcall = 102;
  EXPECT_EQ(action(AUDIT_ARCH_I386, kI386Connect), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(action(AUDIT_ARCH_I386, kI386Socketcall), SECCOMP_RET_USER_NOTIF);
#elif defined(__aarch64__)
  EXPECT_EQ(action(AUDIT_ARCH_AARCH64, SYS_connect), SECCOMP_RET_USER_NOTIF);
  EXPECT_EQ(action(AUDIT_ARCH_AARCH64, SYS_getpid), SECCOMP_RET_ALLOW);
#endif
}

agent::Event Leak(agent::EventVerdict verdict) {
  agent::Event event;
  auto source = std::make_shared<agent::EventSource>();
  source->container_id = "run-1";
  source->facts.name = "curl";
  source->policy_name = "p";
  event.source_of = std::move(source);
  event.verdict = verdict;
  event.leak = true;
  event.syscall = "connect";
  return event;
}

class CountingSink : public agent::EventSink {
 public:
  void Push(agent::Event&& event) override { verdicts.push_back(event.verdict); }
  std::vector<agent::EventVerdict> verdicts;
};

TEST(RunSink, CountsPassesOnAndSaysWhenToKill) {
  CountingSink next;
  int kills = 0;
  RunSink sink;
  sink.Connect(&next, [&] { ++kills; });
  for (int i = 0; i < 100; ++i) {
    sink.Push(Leak(agent::EventVerdict::kDeny));
  }
  EXPECT_EQ(kills, 0);
  sink.Push(Leak(agent::EventVerdict::kKill));
  EXPECT_EQ(kills, 1);
  EXPECT_EQ(next.verdicts.size(), 101);
  const ReportSummary summary = sink.Summary();
  EXPECT_EQ(summary.leaks, 101);
  EXPECT_EQ(summary.broken_lines, 0);
  ASSERT_EQ(summary.containers.size(), 1);
  EXPECT_EQ(summary.containers[0].name, "curl");
  EXPECT_THAT(RenderText(summary, 1, kProgramWords), HasSubstr("program curl"));
}

// What another process has pushed is known, and none of it is lost where it was more than fits.
TEST(RunSink, RecallsAsManyEventsAndLeaksAsWerePushed) {
  RunSink sink;
  ASSERT_TRUE(sink.Share());
  uint64_t events = 0;
  agent::Event harmless = Leak(agent::EventVerdict::kAllow);
  harmless.leak = false;
  harmless.detail = std::string(4000, 'x');
  const uint64_t enough = RunSink::kMaxShared / harmless.detail.size() + 10;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  for (; events < enough; ++events) {
    if (child == 0) {
      sink.Push(agent::Event(harmless));
    }
  }
  for (const auto verdict : {agent::EventVerdict::kDeny, agent::EventVerdict::kAudit}) {
    for (int i = 0; i < 3; ++i, ++events) {
      if (child == 0) {
        sink.Push(Leak(verdict));
      }
    }
  }
  if (child == 0) {
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_LT(sink.Summary().events, events) << "no line says how many more there were";

  sink.Recall();
  const ReportSummary summary = sink.Summary();
  EXPECT_EQ(summary.events, events);
  EXPECT_EQ(summary.leaks, 6);
  EXPECT_EQ(summary.stopped, 3);
  EXPECT_GT(summary.suppressed, 6);
  ASSERT_EQ(summary.containers.size(), 1);
  EXPECT_EQ(summary.containers[0].rows.size(), 1);  // of the harmless ones that fit
}

}  // namespace
}  // namespace oakum::cli
