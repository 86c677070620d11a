// Gates and associations: who may use them, how long they last, and what is said when they fail.
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <array>
#include <filesystem>
#include <iterator>
#include <string>

#include "agent/proxy/relay_slots.h"
#include "test/unit/agent/datagram_testing.h"
#include "test/unit/agent/descriptor_limit.h"
#include "test/unit/agent/udp_proxy.h"
#include "test/unit/agent/unused_port.h"

namespace oakum::agent {
namespace {

constexpr uint32_t kFar = 0xc0000201;  // 192.0.2.1 (RFC 5737)

TEST(AssociationTest, FirstDatagramsWaitUntilItIsMade) {
  UdpProxy proxy({.refuse = false, .delay = 200, .hang_up_after = -1, .wildcard = false});
  Guarded guarded(Carrying(proxy.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd fd = UdpSocket();
    for (const char* text : {"a", "b", "c"}) {
      (void)SendText(fd.get(), V4(kFar, 9), text);
    }
    for (int i = 0; i < 3; ++i) {
      dprintf(output_fd, "%s\n", Next(fd.get()).c_str());
    }
    return 0;
  });
  EXPECT_EQ(output,
            "192.0.2.1:9 a from 192.0.2.1:9\n"
            "192.0.2.1:9 b from 192.0.2.1:9\n"
            "192.0.2.1:9 c from 192.0.2.1:9\n");
  EXPECT_EQ(proxy.associations(), 1);
}

TEST(AssociationTest, AnotherIsMadeWhenTheProxyHasEndedIt) {
  UdpProxy proxy({.refuse = false, .delay = 0, .hang_up_after = 2, .wildcard = true});
  Guarded guarded(Carrying(proxy.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd fd = UdpSocket();
    const sockaddr_in to = V4(kFar, 9);
    dprintf(output_fd, "%s\n", Exchange(fd.get(), to, "one").c_str());
    dprintf(output_fd, "%s\n", Exchange(fd.get(), to, "two").c_str());
    // One that comes before the end has been noticed is lost, as datagrams may be.
    for (int attempt = 0; attempt < 50; ++attempt) {
      (void)SendText(fd.get(), to, "three");
      pollfd ready = {fd.get(), POLLIN, 0};
      if (poll(&ready, 1, 100) == 1) {
        break;
      }
    }
    dprintf(output_fd, "%s\n", Next(fd.get()).c_str());
    return 0;
  });
  EXPECT_EQ(output,
            "192.0.2.1:9 one from 192.0.2.1:9\n"
            "192.0.2.1:9 two from 192.0.2.1:9\n"
            "192.0.2.1:9 three from 192.0.2.1:9\n");
  EXPECT_EQ(proxy.associations(), 2);
}

TEST(AssociationTest, AProxyThatIsDownIsNamed) {
  const UnusedPort nobody;
  Guarded guarded(Carrying(nobody.port()));
  std::array<int, 2> go_on{};
  ASSERT_EQ(pipe2(go_on.data(), O_CLOEXEC), 0);
  GuardedProcess process(guarded.Plan(), [&](int) {
    const UniqueFd fd = UdpSocket();
    char ignored = 0;
    return SendText(fd.get(), V4(kFar, 9), "x") == 0 && read(go_on[0], &ignored, 1) == 1 ? 0 : 1;
  });
  guarded.Attach(process);
  process.Go();
  for (int attempt = 0; attempt < 10'000 && guarded.sink().events().empty(); ++attempt) {
    usleep(1000);
  }
  EXPECT_EQ(write(go_on[1], "g", 1), 1);
  EXPECT_EQ(process.Wait(), 0);
  close(go_on[0]);
  close(go_on[1]);
  const auto events = guarded.sink().events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_TRUE(events[0].proxy_failure);
  EXPECT_FALSE(events[0].leak);
  EXPECT_EQ(events[0].verdict, EventVerdict::kRedirect);
  EXPECT_EQ(events[0].errno_value, ECONNREFUSED);
  EXPECT_NE(events[0].detail.find(std::to_string(nobody.port())), std::string::npos)
      << events[0].detail;
  EXPECT_EQ(events[0].destination.port, 9);
}

TEST(AssociationTest, RepliesFromStrangersAreDropped) {
  UdpProxy proxy;
  Guarded guarded(Carrying(proxy.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd fd = UdpSocket();
    (void)SendText(fd.get(), V4(kFar, 9), "stranger");  // answered by another address
    dprintf(output_fd, "%s", Exchange(fd.get(), V4(kFar, 9), "friend").c_str());
    return 0;
  });
  EXPECT_EQ(output, "192.0.2.1:9 friend from 192.0.2.1:9");
  EXPECT_EQ(proxy.datagrams(), 2);
}

// lo of a new network namespace is down.
bool RaiseLoopback() {
  const UniqueFd fd = UdpSocket();
  ifreq request = {};
  memcpy(request.ifr_name, "lo", sizeof "lo");
  request.ifr_flags = IFF_UP;
  return ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

TEST(GateTest, IsInTheNetworkNamespaceOfTheSocket) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "makes a network namespace";
  }
  UdpProxy proxy;
  Guarded guarded(Carrying(proxy.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd before = UdpSocket();
    if (unshare(CLONE_NEWNET) != 0 || !RaiseLoopback()) {
      return 1;
    }
    const UniqueFd after = UdpSocket();
    dprintf(output_fd, "%s\n", Exchange(after.get(), V4(kFar, 9), "inside").c_str());
    dprintf(output_fd, "%s\n", Exchange(before.get(), V4(kFar, 9), "outside").c_str());
    return 0;
  });
  EXPECT_EQ(output,
            "192.0.2.1:9 inside from 192.0.2.1:9\n"
            "192.0.2.1:9 outside from 192.0.2.1:9\n");
}

TEST(GateTest, IsReachedFromSocketsThatAreBound) {
  UdpProxy proxy;
  Guarded guarded(Carrying(proxy.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd fd = UdpSocket();
    const sockaddr_in own = V4(0x7f000009, 0);
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
      return 1;
    }
    dprintf(output_fd, "%s", Exchange(fd.get(), V4(kFar, 9), "bound").c_str());
    return 0;
  });
  EXPECT_EQ(output, "192.0.2.1:9 bound from 192.0.2.1:9");
}

TEST(GateTest, DropsWhatStrangersSend) {
  UdpProxy proxy;
  Guarded guarded(Carrying(proxy.port()));
  const UniqueFd shared = UdpSocket(AF_INET, SOCK_CLOEXEC);
  std::array<int, 2> go_on{};
  ASSERT_EQ(pipe2(go_on.data(), O_CLOEXEC), 0);
  GuardedProcess process(guarded.Plan(), [&](int output_fd) {
    const sockaddr_in to = V4(kFar, 9);
    char ignored = 0;
    if (connect(shared.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 ||
        read(go_on[0], &ignored, 1) != 1 || send(shared.get(), "mine", 4, 0) != 4) {
      return 1;
    }
    dprintf(output_fd, "%s", Next(shared.get()).c_str());
    return 0;
  });
  guarded.Attach(process);
  process.Go();
  // The test's own socket is the child's: nobody translates for the test.
  sockaddr_in gate = {};
  socklen_t length = sizeof gate;
  for (int attempt = 0; attempt < 5000; ++attempt) {
    if (getpeername(shared.get(), reinterpret_cast<sockaddr*>(&gate), &length) == 0) {
      break;
    }
    usleep(1000);
  }
  EXPECT_EQ(gate.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  const UniqueFd stranger = UdpSocket(AF_INET, SOCK_CLOEXEC);
  EXPECT_EQ(SendText(stranger.get(), gate, "not mine"), 0);
  EXPECT_EQ(write(go_on[1], "g", 1), 1);
  std::string output;
  EXPECT_EQ(process.Wait(&output), 0);
  EXPECT_EQ(output, "192.0.2.1:9 mine from 192.0.2.1:9");
  EXPECT_EQ(proxy.datagrams(), 1);
  close(go_on[0]);
  close(go_on[1]);
}

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

TEST(GateTest, AContainerHasItsShareOfTheDescriptors) {
  constexpr size_t kDescriptors = 256;  // of which its share is the least that there is
  constexpr uint16_t kDestinations = 200;
  const DescriptorLimit limit(kDescriptors);
  UdpProxy proxy;
  Guarded guarded(Carrying(proxy.port()));
  std::array<int, 2> go_on{};
  ASSERT_EQ(pipe2(go_on.data(), O_CLOEXEC), 0);
  std::array<int, 2> done{};
  ASSERT_EQ(pipe2(done.data(), O_CLOEXEC), 0);
  GuardedProcess process(guarded.Plan(), [&](int output_fd) {
    const UniqueFd fd = UdpSocket();
    for (uint16_t port = 1; port <= kDestinations; ++port) {
      const std::string got = Exchange(fd.get(), V4(kFar, port + 1000), "x");
      if (got != fmt::format("192.0.2.1:{0} x from 192.0.2.1:{0}", port + 1000)) {
        dprintf(output_fd, "%s", got.c_str());
        break;
      }
    }
    char ignored = 0;
    return write(done[1], "d", 1) == 1 && read(go_on[0], &ignored, 1) == 1 ? 0 : 1;
  });
  guarded.Attach(process);
  const size_t before = OpenDescriptors();
  process.Go();
  char ignored = 0;
  EXPECT_EQ(read(done[0], &ignored, 1), 1);
  // The last ones that had to go may not have gone yet.
  size_t after = OpenDescriptors();
  for (int tries = 0; tries < 10'000 && after > before + 2 * RelaySlots::kAlways; ++tries) {
    usleep(1000);
    after = OpenDescriptors();
  }
  EXPECT_LE(after, before + 2 * RelaySlots::kAlways);
  EXPECT_EQ(write(go_on[1], "g", 1), 1);
  std::string output;
  EXPECT_EQ(process.Wait(&output), 0);
  EXPECT_EQ(output, "");
  for (const int fd : {go_on[0], go_on[1], done[0], done[1]}) {
    close(fd);
  }
}

TEST(GateTest, IsForgottenWhenTheSocketGoesElsewhere) {
  UdpProxy proxy;
  const Server direct(SOCK_DGRAM);
  Guarded guarded(Carrying(proxy.port(), R"(, "allow": ["127.0.0.1"])"));
  const std::string output = OutputOf(guarded, [&](int output_fd) {
    const UniqueFd fd = UdpSocket();
    const auto show = [&] {
      sockaddr_in peer = {};
      socklen_t length = sizeof peer;
      const int error =
          getpeername(fd.get(), reinterpret_cast<sockaddr*>(&peer), &length) == 0 ? 0 : errno;
      dprintf(output_fd, "%d %x %d\n", error, ntohl(peer.sin_addr.s_addr),
              peer.sin_port == htons(direct.port()) ? -1 : ntohs(peer.sin_port));
    };
    const auto go = [&](const sockaddr_in& to) {
      return connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to);
    };
    (void)go(V4(kFar, 9));
    show();
    sockaddr_in nowhere = {};
    nowhere.sin_family = AF_UNSPEC;
    (void)go(nowhere);
    show();
    (void)go(V4(kFar + 1, 9));
    show();
    (void)go(V4(INADDR_LOOPBACK, direct.port()));
    show();
    return 0;
  });
  EXPECT_EQ(output, fmt::format("0 c0000201 9\n{} 0 0\n0 c0000202 9\n0 7f000001 -1\n", ENOTCONN));
}

}  // namespace
}  // namespace oakum::agent
