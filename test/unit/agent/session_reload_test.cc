// Policies that change while calls are being decided.
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "test/unit/agent/absent_memory.h"
#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

std::shared_ptr<const policy::PolicySet> Parse(const std::string& text) {
  auto policies = policy::PolicySet::Parse(text, "reload.json");
  EXPECT_TRUE(policies.has_value()) << policies.error().ToString();
  return *policies;
}

int ErrorOf(ssize_t result) { return result < 0 ? errno : 0; }

// Under each of the two policies every call succeeds: because audit lets it pass, or because the
// rule allows it. It fails where the rules of the one meet the mode of the other.
TEST(ReloadTest, NoCallMeetsTheRulesOfOnePolicyAndTheModeOfAnother) {
  const Server server(SOCK_DGRAM);
  const std::string audit = Policies("audit", R"("outgoing": {"default": "deny"})");
  const auto lenient = Parse(audit);
  const auto strict = Parse(Policies(
      "enforce", fmt::format(R"("outgoing": {{"default": "deny", "allow": ["127.0.0.1:{}"]}})",
                             server.port())));
  Guarded guarded(audit);
  std::atomic<bool> over{false};
  std::thread reloads([&] {
    while (!over.load()) {
      guarded.manager().SetPolicies(strict);
      guarded.manager().SetPolicies(lenient);
    }
  });
  const int code = guarded.Run([&](int) {
    constexpr int kRounds = 5'000;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in address = Loopback(server.port());
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    for (int i = 0; i < kRounds; ++i) {
      if (const int error = ErrorOf(connect(fd, name, sizeof address)); error != 0) {
        return error;
      }
      if (const int error = ErrorOf(sendto(fd, "x", 1, MSG_DONTWAIT, name, sizeof address));
          error != 0 && error != EAGAIN) {
        return error;
      }
    }
    return 0;
  });
  over.store(true);
  reloads.join();
  EXPECT_EQ(code, 0) << "errno";
}

// The same at the worst moment: the policies change while the agent reads the caller's memory,
// which is not there before they have. The call has come under the first.
TEST(ReloadTest, ACallIsDecidedUnderThePolicyThatHeldWhenItCame) {
  struct Told {
    int memory;  // the number of its userfaultfd(2)
    uint64_t where;
  };
  const Server server(SOCK_DGRAM);
  const std::string lenient = Policies("audit", R"("outgoing": {"default": "deny"})");
  const std::string strict = Policies("enforce", R"("outgoing": {"default": "deny"})");
  const sockaddr_in address = Loopback(server.port());
  for (const bool sends : {false, true}) {
    for (const int expected : {0, EACCES}) {
      const auto& [first, second] =
          expected == 0 ? std::pair(lenient, strict) : std::pair(strict, lenient);
      Guarded guarded(first);
      int ends[2];
      ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
      const UniqueFd read_end(ends[0]);
      UniqueFd write_end(ends[1]);
      GuardedProcess process(guarded.Plan(), [&](int) {
        const AbsentMemory memory;
        const Told told = {memory.fd(), reinterpret_cast<uintptr_t>(memory.get())};
        const int fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (!memory.ok() || write(write_end.get(), &told, sizeof told) != sizeof told) {
          return 77;
        }
        const auto* name = static_cast<const sockaddr*>(memory.get());
        return ErrorOf(sends ? sendto(fd, "x", 1, 0, name, sizeof address)
                             : connect(fd, name, sizeof address));
      });
      write_end.Reset();
      guarded.Attach(process);
      process.Go();
      Told told = {};
      if (read(read_end.get(), &told, sizeof told) != sizeof told) {
        ASSERT_EQ(process.Wait(), 77);
        GTEST_SKIP() << "userfaultfd: not permitted";
      }
      const auto calls = [&] { return guarded.manager().List().at(0).calls; };
      // socket(2) asks nobody. Then the session's thread reads what is not there.
      for (int i = 0; i < 2'000 && calls() == 0; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      ASSERT_EQ(calls(), 1U);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      guarded.manager().SetPolicies(Parse(second));
      const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process.pid(), 0)));
      const UniqueFd memory(
          static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), told.memory, 0)));
      ASSERT_TRUE(AbsentMemory::Fill(memory.get(), told.where,
                                     {reinterpret_cast<const char*>(&address), sizeof address}))
          << errno;
      EXPECT_EQ(process.Wait(), expected) << sends;
    }
  }
}

// accept(2) may wait for days: who comes then meets the policy of that day.
TEST(ReloadTest, PeersAreDecidedUnderWhatHoldsWhenTheyCome) {
  const auto incoming = [](std::string_view rule) {
    return Policies("enforce", fmt::format(R"("outgoing": {{"default": "deny"}},
        "incoming": {{"default": "deny", "allow": ["* from {}"]}})",
                                           rule));
  };
  Guarded guarded(incoming("127.0.0.1"));
  int ports[2];
  ASSERT_EQ(pipe2(ports, O_CLOEXEC), 0);
  const UniqueFd read_end(ports[0]);
  const UniqueFd write_end(ports[1]);
  GuardedProcess process(guarded.Plan(), [&](int) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof address;
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(fd, 8) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      return errno;
    }
    const uint16_t port = ntohs(address.sin_port);
    if (write(write_end.get(), &port, sizeof port) != sizeof port) {
      return errno;
    }
    const int accepted = accept(fd, nullptr, nullptr);
    sockaddr_in peer = {};
    length = sizeof peer;
    if (accepted < 0 || getpeername(accepted, reinterpret_cast<sockaddr*>(&peer), &length) != 0) {
      return errno;
    }
    return static_cast<int>(ntohl(peer.sin_addr.s_addr) & 0xff);
  });
  guarded.Attach(process);
  process.Go();
  uint16_t port = 0;
  ASSERT_EQ(read(read_end.get(), &port, sizeof port), static_cast<ssize_t>(sizeof port));
  // The call waits under the first policy.
  for (int i = 0; i < 1'000 && guarded.manager().List().at(0).waiting == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  guarded.manager().SetPolicies(Parse(incoming("127.0.0.2")));
  const auto connect_from = [&](const char* source) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in own = Loopback(0);
    inet_pton(AF_INET, source, &own.sin_addr);
    const sockaddr_in address = Loopback(port);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own), 0);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  };
  const UniqueFd no_friend_any_more = connect_from("127.0.0.1");
  const UniqueFd friend_now = connect_from("127.0.0.2");
  EXPECT_EQ(process.Wait(), 2);
}

// Nobody's rights grow because his policy is taken away, and they come back with it.
TEST(ReloadTest, WithoutItsPolicyASessionDeniesUntilItIsThereAgain) {
  const Server server(SOCK_DGRAM);
  const std::string text = Policies("audit", R"("outgoing": {"default": "allow"})");
  std::string renamed = text;
  for (size_t at = 0; (at = renamed.find("\"p\"", at)) != std::string::npos;) {
    renamed.replace(at, 3, "\"q\"");
  }
  Guarded guarded(text);
  int to_child[2];
  int to_parent[2];
  ASSERT_EQ(pipe2(to_child, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(to_parent, O_CLOEXEC), 0);
  GuardedProcess process(guarded.Plan(), [&](int) {
    for (const int expected : {0, EACCES, 0}) {
      char byte = 0;
      if (read(to_child[0], &byte, 1) != 1) {
        return 100;
      }
      if (SendError(server.port()) != expected) {
        return 101 + expected;
      }
      if (write(to_parent[1], "x", 1) != 1) {
        return 100;
      }
    }
    return 0;
  });
  guarded.Attach(process);
  process.Go();
  close(to_parent[1]);
  for (const auto& policies : {Parse(text), Parse(renamed), Parse(text)}) {
    guarded.manager().SetPolicies(policies);
    char byte = 0;
    ASSERT_EQ(write(to_child[1], "x", 1), 1);
    if (read(to_parent[0], &byte, 1) != 1) {
      break;  // its exit code says why
    }
  }
  EXPECT_EQ(process.Wait(), 0);
  for (const int fd : {to_child[0], to_child[1], to_parent[0]}) {
    close(fd);
  }
}

// A new network namespace with loopback and another interface, "in0".
bool EnterNetworkWithInterface() {
  const UniqueFd fd(unshare(CLONE_NEWNET) == 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
                                               : -1);
  ifreq request = {};
  memcpy(request.ifr_name, "lo", sizeof "lo");
  request.ifr_flags = IFF_UP;
  return ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0 && ioctl(fd.get(), SIOCBRADDBR, "in0") == 0;
}

// A socket that leads to loopback is not asked again and again whether it is bound to another
// interface: but where another policy has allowed that meanwhile, it is.
TEST(ReloadTest, WhatOnePolicyLetsBindToAnInterfaceIsSeenByTheNext) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "makes a network namespace";
  }
  const std::string strict = Policies("enforce", R"("outgoing": {"default": "deny",
      "allow": ["127.0.0.1"]})");
  const std::string audit = Policies("audit", R"("outgoing": {"default": "deny"})");
  const std::string lenient = Policies("enforce", R"("outgoing": {"default": "allow"})");
  constexpr int kNoInterface = 77;
  for (const std::string& between : {lenient, audit}) {
    for (const bool sends : {false, true}) {
      Guarded guarded(strict);
      std::array<int, 2> to_child{};
      std::array<int, 2> to_parent{};
      ASSERT_EQ(pipe2(to_child.data(), O_CLOEXEC), 0);
      ASSERT_EQ(pipe2(to_parent.data(), O_CLOEXEC), 0);
      GuardedProcess process(guarded.Plan(), [&](int) {
        if (!EnterNetworkWithInterface()) {
          return kNoInterface;
        }
        const int fd = socket(AF_INET, SOCK_DGRAM, 0);
        const sockaddr_in address = Loopback(9);
        const auto* name = reinterpret_cast<const sockaddr*>(&address);
        const auto reach = [&] {
          return ErrorOf(sends ? sendto(fd, "x", 1, 0, name, sizeof address)
                               : connect(fd, name, sizeof address));
        };
        const auto next_policy = [&] {
          char byte = 0;
          return write(to_parent[1], "x", 1) == 1 && read(to_child[0], &byte, 1) == 1;
        };
        if (reach() != 0 || !next_policy() ||
            setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "in0", 4) != 0 || !next_policy()) {
          return 100;
        }
        return reach();
      });
      guarded.Attach(process, "guarded", "p", policy::RecordOf(guarded.Plan()));
      process.Go();
      close(to_parent[1]);
      for (const std::string& text : {between, strict}) {
        char byte = 0;
        if (read(to_parent[0], &byte, 1) != 1) {
          break;  // its exit code says why
        }
        guarded.manager().SetPolicies(Parse(text));
        ASSERT_EQ(write(to_child[1], "x", 1), 1);
      }
      const int code = process.Wait();
      for (const int fd : {to_child[0], to_child[1], to_parent[0]}) {
        close(fd);
      }
      if (code == kNoInterface) {
        GTEST_SKIP() << "the kernel makes no bridge";
      }
      EXPECT_EQ(code, EACCES) << sends;
    }
  }
}

// Nor is it asked where another container has a hand on the socket, and may bind it: but from then
// on, and again when that one is gone.
TEST(ReloadTest, WhatAnotherContainerBindsToAnInterfaceIsSeen) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "makes a network namespace";
  }
  Guarded guarded(
      R"({"version": 1, "policies": {
            "p": {"mode": "enforce", "outgoing": {"default": "deny", "allow": ["127.0.0.1"]}},
            "lenient": {"mode": "enforce", "outgoing": {"default": "allow"}}}})");
  constexpr int kNoInterface = 77;
  std::array<int, 2> to_child{};
  std::array<int, 2> to_parent{};
  ASSERT_EQ(pipe2(to_child.data(), O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(to_parent.data(), O_CLOEXEC), 0);
  GuardedProcess strict(guarded.Plan(), [&](int) {
    if (!EnterNetworkWithInterface()) {
      return kNoInterface;
    }
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in address = Loopback(9);
    const auto reach = [&] {
      return ErrorOf(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
    };
    char byte = 0;
    if (reach() != 0 || write(to_parent[1], &fd, sizeof fd) != sizeof fd ||
        read(to_child[0], &byte, 1) != 1) {
      return 100;
    }
    return reach();
  });
  guarded.Attach(strict, "guarded", "p", policy::RecordOf(guarded.Plan()));
  strict.Go();
  close(to_parent[1]);
  int fd = -1;
  if (read(to_parent[0], &fd, sizeof fd) == sizeof fd) {
    GuardedProcess lenient(guarded.Plan("lenient"), [&](int) {
      const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, strict.pid(), 0)));
      const UniqueFd socket(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), fd, 0)));
      return ErrorOf(setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, "in0", 4));
    });
    guarded.Attach(lenient, "another", "lenient", policy::RecordOf(guarded.Plan("lenient")));
    lenient.Go();
    EXPECT_EQ(lenient.Wait(), 0);
    EXPECT_EQ(write(to_child[1], "x", 1), 1);
  }
  const int code = strict.Wait();
  for (const int end : {to_child[0], to_child[1], to_parent[0]}) {
    close(end);
  }
  if (code == kNoInterface) {
    GTEST_SKIP() << "the kernel makes no bridge";
  }
  EXPECT_EQ(code, EACCES);
}

// A filter in the kernel stays as it is: what it cannot give is said, for each container.
TEST(ReloadTest, WhatTheFilterCannotGiveIsReported) {
  const std::string plain =
      Policies("enforce", R"("outgoing": {"default": "deny"}, "dns": "allow")");
  const std::string guarding = Policies("enforce", R"("outgoing": {"default": "deny"},
      "dns": "allow", "incoming": {"default": "deny"})");
  Guarded guarded(plain);
  // As the hook writes it, and as an earlier version did: then it is what the policy needed.
  for (const bool recorded : {true, false}) {
    GuardedProcess process(guarded.Plan(), [](int) { return 0; });
    oci::ContainerProcessState state;
    state.id = recorded ? "new" : "old";
    state.init_pid = process.pid();
    policy::ListenerMetadata metadata{.policy = "p", .facts = {}};
    if (recorded) {
      metadata.filter = policy::RecordOf(guarded.Plan());
    }
    state.metadata = policy::EncodeListenerMetadata(metadata);
    ASSERT_TRUE(guarded.manager().Attach(state, process.TakeListener()));
    const auto info = [&] { return guarded.manager().List().back(); };
    EXPECT_TRUE(info().filter_known);
    EXPECT_TRUE(info().filter_gaps.empty());
    guarded.manager().SetPolicies(Parse(guarding));
    EXPECT_EQ(info().filter_gaps.unseen,
              (std::vector<std::string>{"accept", "accept4", "bind", "listen"}));
    EXPECT_TRUE(info().filter_gaps.refused.empty());
    guarded.manager().SetPolicies(Parse(plain));
    EXPECT_TRUE(info().filter_gaps.empty()) << "the old policy again";
    process.Go();
    EXPECT_EQ(process.Wait(), 0);
  }
}

}  // namespace
}  // namespace oakum::agent
