// What may become a session: wrong descriptors, the same listener twice, ids that are used again.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/session/session_bounds.h"
#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

using ::testing::HasSubstr;

const std::string kDeny = Policies("enforce", R"("outgoing": {"default": "deny"})");
// "p" and one that lets everything pass.
constexpr char kTwo[] = R"({"version": 1, "policies": {
    "p": {"mode": "enforce", "outgoing": {"default": "deny"}},
    "weak": {"mode": "audit", "outgoing": {"default": "allow"}},
    "deadly": {"mode": "kill", "outgoing": {"default": "deny"}}},
    "containers": [{"match": {}, "policy": "p"}]})";

oci::ContainerProcessState StateOf(const GuardedProcess& process, const std::string& id,
                                   const std::string& policy) {
  oci::ContainerProcessState state;
  state.id = id;
  state.init_pid = process.pid();
  state.metadata = policy::EncodeListenerMetadata({policy, {}});
  return state;
}

TEST(BorderTest, WhatIsNoListenerIsRefused) {
  Guarded guarded(kDeny);
  std::array<int, 2> pipe_fds{};
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC), 0);
  const UniqueFd writing(pipe_fds[1]);
  std::vector<UniqueFd> wrong;
  wrong.emplace_back(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  wrong.emplace_back(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  wrong.emplace_back(open("/dev/null", O_RDWR | O_CLOEXEC));
  wrong.emplace_back(open("/", O_PATH | O_CLOEXEC));
  wrong.emplace_back(pipe_fds[0]);
  wrong.emplace_back(eventfd(0, EFD_CLOEXEC));
  wrong.emplace_back(memfd_create("anon_inode:seccomp notify", MFD_CLOEXEC));
  wrong.emplace_back(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  wrong.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  wrong.emplace_back(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
  for (UniqueFd& fd : wrong) {
    ASSERT_TRUE(fd);
    const int number = fd.get();
    oci::ContainerProcessState state;
    state.id = "c";
    const auto attached = guarded.manager().Attach(state, std::move(fd));
    ASSERT_FALSE(attached);
    EXPECT_EQ(attached.error().code, EINVAL);
    EXPECT_THAT(attached.error().what, HasSubstr("not a seccomp listener"));
    EXPECT_EQ(fcntl(number, F_GETFD), -1) << "it is closed";
  }
  EXPECT_TRUE(guarded.manager().List().empty());
}

TEST(BorderTest, AListenerThatIsThereAlreadyKeepsItsPolicy) {
  Server server(SOCK_STREAM);
  Guarded guarded(kTwo);
  GuardedProcess process(guarded.Plan(), [&](int) { return ConnectError(server.port()); });
  UniqueFd listener = process.TakeListener();
  UniqueFd again(dup(listener.get()));
  ASSERT_TRUE(guarded.manager().Attach(StateOf(process, "c", "p"), std::move(listener)));
  const auto replayed = guarded.manager().Attach(StateOf(process, "c", "weak"), std::move(again));
  ASSERT_FALSE(replayed);
  EXPECT_EQ(replayed.error().code, EEXIST);
  EXPECT_THAT(replayed.error().what, HasSubstr("session 1 already"));
  ASSERT_EQ(guarded.manager().List().size(), 1);
  EXPECT_EQ(guarded.manager().List()[0].policy, "p");
  process.Go();
  EXPECT_EQ(process.Wait(), EACCES);
  EXPECT_FALSE(server.Reached());
}

TEST(BorderTest, AnIdThatIsUsedAgainWeakensNoSession) {
  Server server(SOCK_STREAM);
  Guarded guarded(kTwo);
  GuardedProcess first(guarded.Plan(), [&](int) { return ConnectError(server.port()); });
  GuardedProcess second(guarded.Plan(), [&](int) { return 0; });
  ASSERT_TRUE(guarded.manager().Attach(StateOf(first, "c", "p"), first.TakeListener()));
  // The same id; another process, or the first one's; another policy.
  oci::ContainerProcessState state = StateOf(first, "c", "weak");
  state.annotations["io.oakum.policy"] = "weak";
  state.bundle = "/elsewhere";
  ASSERT_TRUE(guarded.manager().Attach(state, second.TakeListener()));
  const auto sessions = guarded.manager().List();
  ASSERT_EQ(sessions.size(), 2);
  EXPECT_EQ(sessions[0].policy, "p");
  EXPECT_EQ(sessions[1].policy, "weak");
  first.Go();
  EXPECT_EQ(first.Wait(), EACCES);
  EXPECT_FALSE(server.Reached());
  second.Go();
  EXPECT_EQ(second.Wait(), 0);
}

TEST(BorderTest, AContainerOfTheSameIdIsNotEndedForAnother) {
  Server server(SOCK_STREAM);
  Guarded guarded(kTwo);
  GuardedProcess first(guarded.Plan(), [&](int) { return 7; });
  GuardedProcess second(guarded.Plan(), [&](int) { return ConnectError(server.port()); });
  ASSERT_TRUE(guarded.manager().Attach(StateOf(first, "web", "p"), first.TakeListener()));
  ASSERT_TRUE(guarded.manager().Attach(StateOf(second, "web", "deadly"), second.TakeListener()));
  second.Go();
  EXPECT_EQ(second.Wait(), -SIGKILL);
  first.Go();
  EXPECT_EQ(first.Wait(), 7) << "it lives on";
}

TEST(SessionBounds, AreKeptForEachContainerAndInAll) {
  SessionBounds bounds;
  for (size_t i = 0; i < kMaxSessionsOfContainer; ++i) {
    ASSERT_TRUE(bounds.Admit("many", 1));
  }
  EXPECT_EQ(bounds.Admit("many", 1).error().code, EAGAIN);
  EXPECT_TRUE(bounds.Admit("another", 1));
  constexpr size_t kBig = size_t{1} << 20;
  for (size_t i = 0; i < kMaxStateBytesOfContainer / kBig; ++i) {
    ASSERT_TRUE(bounds.Admit("big", kBig));
  }
  EXPECT_EQ(bounds.Admit("big", kBig).error().code, EAGAIN);
  size_t admitted = 0;
  while (admitted < 1'000 && bounds.Admit("c" + std::to_string(admitted), kBig)) {
    ++admitted;
  }
  EXPECT_LT(bounds.state_bytes(), kMaxStateBytesInAll + 1);
  EXPECT_EQ(bounds.Admit("one more", kBig).error().code, EAGAIN);
  for (size_t i = 0; i < admitted; ++i) {
    bounds.Release("c" + std::to_string(i), kBig);
  }
  for (size_t i = 0; i < kMaxStateBytesOfContainer / kBig; ++i) {
    bounds.Release("big", kBig);
  }
  for (size_t i = 0; i < kMaxSessionsOfContainer; ++i) {
    bounds.Release("many", 1);
  }
  bounds.Release("another", 1);
  EXPECT_EQ(bounds.sessions() + bounds.state_bytes() + bounds.containers(), 0);
}

}  // namespace
}  // namespace oakum::agent
