// Threads that change what a call means while it is decided. Each way is first shown to be open
// without a guard.
#include <linux/sched.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "agent/calls/calls.h"
#include "agent/session/container_parts.h"
#include "test/unit/agent/hostile_testing.h"

namespace oakum::agent {
namespace {

constexpr int kRounds = 4000;

// Shows that a race can be won without a guard: `way` is run until `reached` says so. Calls are
// faster there, and on a busy machine the other thread may not run for many seconds.
bool IsOpenNatively(const std::function<std::function<int(int)>(int)>& way,
                    const std::function<bool()>& reached) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  while (std::chrono::steady_clock::now() < until) {
    if (RunUnguarded(way(10 * kRounds)) != 0) {
      return false;
    }
    if (reached()) {
      return true;
    }
  }
  return false;
}

class HostileRewriteTest : public testing::TestWithParam<const char*> {};

TEST_P(HostileRewriteTest, ReachesNothing) {
  const Server allowed(SOCK_DGRAM);
  const Server denied(SOCK_DGRAM);
  const auto body = [&](int rounds) {
    return Hostile(GetParam(), allowed.port(), denied.port(), rounds);
  };
  ASSERT_TRUE(IsOpenNatively(body, [&] { return Drain(denied) > 0; }));
  Drain(allowed);
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body(kRounds)), 0);
  EXPECT_EQ(Drain(denied), 0);
  EXPECT_GT(Drain(allowed), 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, HostileRewriteTest,
                         testing::Values("rewrite-sendto", "rewrite-sendmsg", "rewrite-msghdr",
                                         "rewrite-mmsghdr", "rewrite-iovec"),
                         [](const auto& param_info) {
                           std::string name =
                               param_info.param + std::string_view("rewrite-").size();
                           name[0] = static_cast<char>(toupper(name[0]));
                           return name;
                         });

class HostileDescriptorTest : public testing::TestWithParam<const char*> {};

// Another socket under the number: by dup2(2), or because it was closed and given out again.
TEST_P(HostileDescriptorTest, ReachesNothing) {
  const Server denied(SOCK_STREAM);
  const auto body = [&](int rounds) { return Hostile(GetParam(), denied.port(), rounds); };
  ASSERT_TRUE(IsOpenNatively(body, [&] { return denied.Reached(); }));
  while (denied.Reached()) {
  }
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body(2 * kRounds)), 0);
  EXPECT_FALSE(denied.Reached());
}

INSTANTIATE_TEST_SUITE_P(Ways, HostileDescriptorTest, testing::Values("switch", "reuse"),
                         [](const auto& param_info) {
                           return param_info.param[0] == 's' ? "Duplicated" : "Reused";
                         });

TEST(HostileRaceTest, ChangingTheDomainReachesNothing) {
  const DatagramServer allowed("127.0.0.1");
  const DatagramServer denied("127.0.0.2", allowed.port());
  const auto body = [&](int rounds) { return Hostile("change-domain", allowed.port(), rounds); };
  ASSERT_TRUE(IsOpenNatively(body, [&] { return denied.Drain() > 0; }));
  allowed.Drain();
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body(kRounds)), 0);
  EXPECT_EQ(denied.Drain(), 0);
  EXPECT_GT(allowed.Drain(), 0);
}

TEST(HostileRaceTest, DeniedEntryOfSendmmsgEndsTheCall) {
  const Server allowed(SOCK_DGRAM);
  const Server denied(SOCK_DGRAM);
  const auto body = [&](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in addresses[3] = {Loopback(allowed.port()), Loopback(denied.port()),
                                Loopback(allowed.port())};
    iovec piece = {const_cast<char*>("x"), 1};
    mmsghdr messages[3] = {};
    for (size_t i = 0; i < 3; ++i) {
      messages[i].msg_hdr.msg_name = &addresses[i];
      messages[i].msg_hdr.msg_namelen = sizeof addresses[i];
      messages[i].msg_hdr.msg_iov = &piece;
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int first = sendmmsg(fd, messages, 3, 0);
    const int second = sendmmsg(fd, messages + 1, 2, 0);
    return first * 10 + (second == -1 && errno == EACCES ? 1 : 0);
  };
  ASSERT_EQ(RunUnguarded(body), 30);
  ASSERT_GT(Drain(denied), 0);
  Drain(allowed);
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body), 11);
  EXPECT_EQ(Drain(denied), 0);
  EXPECT_EQ(Drain(allowed), 1);
}

// ... with more before it, which are sent together, and each is an event.
TEST(HostileRaceTest, DeniedEntryAmongManyOfSendmmsgEndsTheCall) {
  constexpr size_t kMessages = 40;
  constexpr size_t kDenied = 23;
  const Server allowed(SOCK_DGRAM);
  const Server denied(SOCK_DGRAM);
  const auto body = [&](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    std::array<sockaddr_in, kMessages> addresses;
    iovec piece = {const_cast<char*>("x"), 1};
    std::array<mmsghdr, kMessages> messages = {};
    for (size_t i = 0; i < kMessages; ++i) {
      addresses[i] = Loopback(i == kDenied ? denied.port() : allowed.port());
      messages[i].msg_hdr.msg_name = &addresses[i];
      messages[i].msg_hdr.msg_namelen = sizeof addresses[i];
      messages[i].msg_hdr.msg_iov = &piece;
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int sent = sendmmsg(fd, messages.data(), kMessages, 0);
    const auto told = static_cast<int>(
        std::ranges::count_if(messages, [](const mmsghdr& one) { return one.msg_len == 1; }));
    return sent == told ? sent : -1;
  };
  ASSERT_EQ(RunUnguarded(body), int{kMessages});
  ASSERT_EQ(Drain(denied), 1);
  Drain(allowed);
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body), int{kDenied});
  EXPECT_EQ(Drain(denied), 0);
  EXPECT_EQ(Drain(allowed), int{kDenied});
}

class HostileTableTest : public testing::TestWithParam<bool> {};

// With PIDFD_THREAD the agent finds the thread's own socket; before Linux 6.9 it cannot, and
// refuses.
TEST_P(HostileTableTest, ThreadWithADescriptorTableOfItsOwn) {
  const Server allowed(SOCK_DGRAM);
  const Server denied(SOCK_DGRAM);
  const auto body = Hostile("own-table", allowed.port(), denied.port());
  ASSERT_EQ(RunUnguarded(body), 7);
  ASSERT_GT(Drain(denied), 0);
  Guarded guarded(AllowOnly(allowed.port()), {.thread_pidfds = GetParam()});
  EXPECT_EQ(guarded.Run(body), GetParam() ? 3 : 0);
  EXPECT_EQ(Drain(denied), 0);
}

// Without PIDFD_THREAD, what races with it: nothing more than before.
TEST_P(HostileTableTest, SwitchedAndRewritten) {
  const Server allowed(SOCK_DGRAM);
  const Server denied(SOCK_DGRAM);
  const Server denied_stream(SOCK_STREAM);
  const auto rewrite = [&](int rounds) {
    return Hostile("rewrite-msghdr", allowed.port(), denied.port(), rounds);
  };
  ASSERT_TRUE(IsOpenNatively(rewrite, [&] { return Drain(denied) > 0; }));
  Drain(allowed);
  Guarded guarded(AllowOnly(allowed.port()), {.thread_pidfds = GetParam()});
  EXPECT_EQ(guarded.Run(rewrite(kRounds)), 0);
  EXPECT_EQ(guarded.Run(Hostile("switch", denied_stream.port(), kRounds)), 0);
  EXPECT_EQ(Drain(denied), 0);
  EXPECT_FALSE(denied_stream.Reached());
  EXPECT_GT(Drain(allowed), 0) << "honest calls of the main thread still work";
}

INSTANTIATE_TEST_SUITE_P(Ways, HostileTableTest, testing::Bool(), [](const auto& param_info) {
  return param_info.param ? "ThreadPidfds" : "GroupPidfds";
});

// One call of a guarded process, handled by hand: the moment between its arrival and its answer
// lasts as long as the test wants.
class HostileCallTest : public testing::TestWithParam<const char*> {
 protected:
  HostileCallTest() {
    allowed_ = Loopback(server_.port());
    pieces_ = {const_cast<char*>("x"), 1};
    message_.msg_hdr.msg_name = &allowed_;
    message_.msg_hdr.msg_namelen = sizeof allowed_;
    message_.msg_hdr.msg_iov = &pieces_;
    message_.msg_hdr.msg_iovlen = 1;
    const auto set = policy::PolicySet::Parse(AllowOnly(server_.port()), "test.json");
    policies_ = *set;
    const policy::Policy* found = policies_->Find("p");
    auto source = std::make_shared<EventSource>();
    source->policy = std::shared_ptr<const policy::Policy>(policies_, found);
    process_.emplace(policy::Plan(*found), [this](int) { return Call(); });
    auto notify = NotifyFd::Create(process_->TakeListener());
    EXPECT_TRUE(notify.has_value());
    core_ = std::make_shared<SessionCore>(
        1, std::move(*notify), std::move(source), process_->pid(), UniqueFd(),
        std::make_shared<ContainerParts>(process_->pid(), std::make_shared<GuardedCgroups>(),
                                         std::make_shared<Carrier>(sink_, log_, nullptr)),
        sink_);
    process_->Go();
    const NotifyFd::Buffer buffer = core_->notify().NewBuffer();
    EXPECT_EQ(core_->notify().Receive(buffer.get(), call_.notification), 0);
    call_.kind = LookUpCall(call_.notification.arch, call_.notification.nr);
  }

  // In the child: memory and descriptors are those of the test at the time of the fork.
  int Call() {
    const std::string_view way = GetParam();
    if (way == "connect") {
      return connect(socket_.get(), Address(), sizeof allowed_);
    }
    if (way == "sendto") {
      return static_cast<int>(sendto(socket_.get(), "x", 1, 0, Address(), sizeof allowed_));
    }
    return way == "sendmsg" ? static_cast<int>(sendmsg(socket_.get(), &message_.msg_hdr, 0))
                            : sendmmsg(socket_.get(), &message_, 1, 0);
  }
  const sockaddr* Address() const { return reinterpret_cast<const sockaddr*>(&allowed_); }

  const Server server_{SOCK_DGRAM};
  const UniqueFd socket_{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  sockaddr_in allowed_ = {};
  iovec pieces_ = {};
  mmsghdr message_ = {};
  Log log_{"test", LogLevel::kError};
  RecordingSink sink_;
  std::shared_ptr<const policy::PolicySet> policies_;
  std::optional<GuardedProcess> process_;
  std::shared_ptr<SessionCore> core_;
  GuardedCall call_;
  DescriptorSource descriptors_;
};

// In enforce the kernel is never told to read the container's memory for itself.
TEST_P(HostileCallTest, IsNeverContinued) {
  const auto source = core_->source();
  Outcome outcome = Handle({*core_, descriptors_, *source, nullptr}, call_);
  ASSERT_TRUE(outcome.answer.has_value());
  EXPECT_NE(outcome.answer->kind, Answer::Kind::kContinue);
  EXPECT_EQ(outcome.answer->error, 0);
  core_->Deliver(call_, std::move(*outcome.answer), 0);
  EXPECT_NE(process_->Wait(), 255);
  EXPECT_EQ(Drain(server_), std::string_view(GetParam()) == "connect" ? 0 : 1);
}

// The caller dies, and another process gets its thread id, with the same memory and descriptors.
TEST_P(HostileCallTest, ReusedThreadIdReachesNothing) {
  UniqueFd ignored;
  ASSERT_EQ(descriptors_.Get(call_.notification.tid, socket_.get(), ignored), 0);
  pid_t tid = call_.notification.tid;
  ASSERT_EQ(kill(tid, SIGKILL), 0);
  ASSERT_EQ(process_->Wait(), -SIGKILL);
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  args.set_tid = reinterpret_cast<uintptr_t>(&tid);
  args.set_tid_size = 1;
  const long reused = syscall(SYS_clone3, &args, sizeof args);
  if (reused == 0) {
    for (;;) {
      pause();
    }
  }
  if (reused < 0) {
    GTEST_SKIP() << "clone3 with set_tid: errno " << errno;
  }
  EXPECT_EQ(reused, tid);
  // Everything can be read as before, and yet nothing is done.
  UniqueFd pinned;
  EXPECT_EQ(descriptors_.Get(tid, socket_.get(), pinned), 0);
  const auto source = core_->source();
  Outcome outcome = Handle({*core_, descriptors_, *source, nullptr}, call_);
  if (outcome.answer) {
    EXPECT_EQ(outcome.answer->kind, Answer::Kind::kNone);
  } else {
    EXPECT_FALSE(outcome.operation->Abandon().has_value());
  }
  EXPECT_EQ(Drain(server_), 0);
  kill(static_cast<pid_t>(reused), SIGKILL);
  waitpid(static_cast<pid_t>(reused), nullptr, 0);
}

INSTANTIATE_TEST_SUITE_P(Ways, HostileCallTest,
                         testing::Values("connect", "sendto", "sendmsg", "sendmmsg"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace oakum::agent
