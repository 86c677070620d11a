// Programs that try to get past a session. Each way is first shown to be open without a guard.
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

constexpr int kRounds = 4000;

std::string AllowOnly(uint16_t port, std::string_view more = "") {
  return Policies("enforce", fmt::format(R"("outgoing": {{"default": "deny",
      "allow": ["127.0.0.1:{}"{}]}})",
                                         port, more));
}

int RunUnguarded(const std::function<int(int)>& body) {
  GuardedProcess process({}, body);
  process.Go();
  return process.Wait();
}

// One way of the hostile program.
template <typename... Args>
std::function<int(int)> Hostile(const char* way, Args... args) {
  return [=](int) {
    std::vector<std::string> words = {HOSTILE_PROGRAM, way, std::to_string(args)...};
    std::vector<char*> argv;
    for (std::string& word : words) {
      argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    return 100;
  };
}

// Datagrams that wait in the server's queue.
int Drain(const Server& server) {
  int count = 0;
  char buffer[64];
  while (recv(server.fd(), buffer, sizeof buffer, MSG_DONTWAIT) >= 0) {
    ++count;
  }
  return count;
}

TEST(HostileSessionTest, RewritingTheAddressReachesNothing) {
  for (const bool by_message : {false, true}) {
    const Server allowed(SOCK_DGRAM);
    const Server denied(SOCK_DGRAM);
    const auto body = [&](int rounds) {
      return Hostile(by_message ? "rewrite-sendmsg" : "rewrite-sendto", allowed.port(),
                     denied.port(), rounds);
    };
    // Calls are faster without a guard, so it takes more of them to meet the other thread.
    ASSERT_EQ(RunUnguarded(body(50 * kRounds)), 0);
    ASSERT_GT(Drain(denied), 0) << "the race is not even open natively";
    Drain(allowed);
    Guarded guarded(AllowOnly(allowed.port()));
    EXPECT_EQ(guarded.Run(body(kRounds)), 0);
    EXPECT_EQ(Drain(denied), 0);
    EXPECT_GT(Drain(allowed), 0);
  }
}

TEST(HostileSessionTest, SwitchingTheDescriptorReachesNothing) {
  const Server denied(SOCK_STREAM);
  // Calls are faster without a guard, so it takes more of them to meet the other thread.
  ASSERT_EQ(RunUnguarded(Hostile("switch", denied.port(), 100 * kRounds)), 0);
  const auto body = Hostile("switch", denied.port(), 2 * kRounds);
  ASSERT_TRUE(denied.Reached()) << "the race is not even open natively";
  while (denied.Reached()) {
  }
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), 0);
  EXPECT_FALSE(denied.Reached());
}

TEST(HostileSessionTest, DeniedEntryOfSendmmsgEndsTheCall) {
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

TEST(HostileSessionTest, ThreadWithADescriptorTableOfItsOwn) {
  const Server allowed(SOCK_DGRAM);
  const Server denied(SOCK_DGRAM);
  const auto body = Hostile("own-table", allowed.port(), denied.port());
  ASSERT_EQ(RunUnguarded(body), 7);
  ASSERT_GT(Drain(denied), 0);
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body), 3);
  EXPECT_EQ(Drain(denied), 0);
}

TEST(HostileSessionTest, KernelRefusesByRegistersWithoutTheAgent) {
  const Server server(SOCK_STREAM);
  Guarded guarded(AllowOnly(server.port()));
  const int status = guarded.Run([&](int) {
    int failures = 0;
    const auto expect = [&](long result, int error) {
      failures += result == -1 && errno == error ? 0 : 1;
    };
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(server.port());
    expect(sendto(fd, "x", 1, MSG_FASTOPEN, reinterpret_cast<const sockaddr*>(&address),
                  sizeof address),
           EOPNOTSUPP);
    msghdr message = {};
    expect(sendmsg(fd, &message, MSG_FASTOPEN), EOPNOTSUPP);
    mmsghdr messages = {};
    expect(sendmmsg(fd, &messages, 1, MSG_FASTOPEN), EOPNOTSUPP);
    expect(syscall(SYS_io_uring_setup, 8, nullptr), ENOSYS);
    expect(syscall(SYS_io_uring_enter, 3, 1, 0, 0, nullptr, 0), ENOSYS);
    expect(syscall(SYS_io_uring_register, 3, 0, nullptr, 0), ENOSYS);
    expect(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
    expect(socket(AF_INET, SOCK_RAW, IPPROTO_TCP), EPERM);
    expect(socket(AF_VSOCK, SOCK_STREAM, 0), EAFNOSUPPORT);
    expect(socket(AF_ALG, SOCK_SEQPACKET, 0), EAFNOSUPPORT);
    expect(socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT), EPROTONOSUPPORT);
    expect(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_GENERIC), EPROTONOSUPPORT);
    expect(socket(AF_INET, SOCK_STREAM, 262), EPROTONOSUPPORT);
    expect(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), EPROTONOSUPPORT);
    // The kernel looks at the lower half of a register only.
    expect(syscall(SYS_socket, 0x100000000 + AF_PACKET, SOCK_RAW, 0), EPERM);
    const long plain = syscall(SYS_socket, 0x100000000 + AF_INET, SOCK_STREAM, 0);
    return failures * 10 + (plain >= 0 ? 0 : 1);
  });
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(server.Reached());
  for (const Event& event : guarded.sink().events()) {
    EXPECT_EQ(event.verdict, EventVerdict::kDeny);
  }
  EXPECT_GE(guarded.sink().events().size(), 6U);
}

TEST(HostileSessionTest, SourceRouteInAControlMessageIsRefused) {
  const Server allowed(SOCK_DGRAM);
  Guarded guarded(AllowOnly(allowed.port()));
  const int status = guarded.Run([&](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address = Loopback(allowed.port());
    iovec piece = {const_cast<char*>("x"), 1};
    // LSRR through 127.0.0.2 (RFC 791 section 3.1).
    const unsigned char route[12] = {131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 1, 0};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof route)] = {};
    msghdr message = {};
    message.msg_name = &address;
    message.msg_namelen = sizeof address;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_RETOPTS;
    header->cmsg_len = CMSG_LEN(sizeof route);
    memcpy(CMSG_DATA(header), route, sizeof route);
    return sendmsg(fd, &message, 0) == -1 ? errno : 0;
  });
  EXPECT_EQ(status, EACCES);
  EXPECT_EQ(Drain(allowed), 0);
}

TEST(HostileSessionTest, OptionsThatRouteAreRefused) {
  const auto body = [](int) {
    int failures = 0;
    const auto expect = [&](int fd, int level, int name, const void* value, socklen_t size,
                            int error) {
      const int got = setsockopt(fd, level, name, value, size) == 0 ? 0 : errno;
      failures += got == error ? 0 : 1;
    };
    const int v4 = socket(AF_INET, SOCK_DGRAM, 0);
    const int v6 = socket(AF_INET6, SOCK_DGRAM, 0);
    const unsigned char route[12] = {131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 1, 0};
    expect(v4, IPPROTO_IP, IP_OPTIONS, route, sizeof route, EPERM);
    const ip_mreq group = {{htonl(0xe0000123)}, {htonl(INADDR_LOOPBACK)}};
    expect(v4, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group, EPERM);
    const char header[24] = {0, 2, 0, 1};
    expect(v6, IPPROTO_IPV6, IPV6_RTHDR, header, sizeof header, EPERM);
    expect(v6, IPPROTO_IPV6, 6, header, sizeof header, EPERM);
    // The kernel looks at the lower half of a register only.
    failures += syscall(SYS_setsockopt, v4, 0x100000000, IP_OPTIONS, route, sizeof route) == -1 &&
                        errno == EPERM
                    ? 0
                    : 1;
    // What honest programs set still works.
    const int one = 1;
    expect(v4, IPPROTO_IP, IP_TTL, &one, sizeof one, 0);
    expect(v6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one, 0);
    expect(v4, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one, 0);
    const int tcp = socket(AF_INET, SOCK_STREAM, 0);
    expect(tcp, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one, 0);
    return failures;
  };
  ASSERT_EQ(RunUnguarded(body), 5) << "the options are not open natively";
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), 0);
  EXPECT_EQ(guarded.sink().events().size(), 5U);
}

// A listener whose queue is full, so that connecting to it hangs.
class FullServer {
 public:
  FullServer() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd_.get(), 0), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    for (UniqueFd& filler : fillers_) {
      filler.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      (void)connect(filler.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    usleep(20'000);
  }
  uint16_t port() const { return port_; }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
  std::array<UniqueFd, 4> fillers_;
};

class WaysTest : public testing::TestWithParam<Options> {};

TEST_P(WaysTest, HangingConnectsDelayNobody) {
  const FullServer full;
  const Server server(SOCK_STREAM);
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "allow"})"), GetParam());
  // One container of 100 threads that hang.
  std::thread hanging([&] {
    guarded.Run([&](int) {
      std::vector<std::thread> threads;
      for (int i = 0; i < 100; ++i) {
        threads.emplace_back([&] { ConnectError(full.port()); });
      }
      // Its own quick calls are quick as well.
      usleep(300'000);
      const auto start = std::chrono::steady_clock::now();
      const int error = ConnectError(server.port(), SOCK_NONBLOCK);
      const auto took = std::chrono::steady_clock::now() - start;
      _exit(error == EINPROGRESS && took < std::chrono::milliseconds(200) ? 42 : 1);
      return 0;
    });
  });
  usleep(200'000);
  const int status = guarded.Run([&](int) {
    for (int i = 0; i < 50; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const int error = ConnectError(server.port(), SOCK_NONBLOCK);
      if (error != EINPROGRESS ||
          std::chrono::steady_clock::now() - start > std::chrono::milliseconds(200)) {
        return 1;
      }
    }
    return 0;
  });
  EXPECT_EQ(status, 0);
  hanging.join();
}

TEST_P(WaysTest, CallersThatDieDoNoHarm) {
  const FullServer full;
  const Server server(SOCK_DGRAM);
  Guarded guarded(AllowOnly(server.port(), fmt::format(R"(, "127.0.0.1:{}")", full.port())),
                  GetParam());
  const int status = guarded.Run([&](int) {
    for (int i = 0; i < 200; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        if (i % 2 == 0) {
          ConnectError(full.port());
        }
        for (;;) {
          SendError(server.port());
        }
      }
      usleep(static_cast<useconds_t>(i * 7 % 900));
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
    return SendError(server.port());
  });
  EXPECT_EQ(status, 0);
  for (int i = 0; i < 300 && !guarded.manager().List().empty(); ++i) {
    usleep(10'000);
  }
  EXPECT_TRUE(guarded.manager().List().empty());
}

// What a program and the far side count when it sends kSends datagrams under a signal every 200 us.
constexpr int kSends = 20'000;
struct SendCounts {
  int sent = 0;
  int failed = 0;
  int received = 0;
};

SendCounts SendUnderSignals(Options options, bool wait_killable) {
  const Server server(SOCK_DGRAM);
  const int room = 8 << 20;
  setsockopt(server.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  Guarded guarded(AllowOnly(server.port()), options);
  std::atomic<bool> done{false};
  std::atomic<int> received{0};
  std::thread counter([&] {
    pollfd ready = {server.fd(), POLLIN, 0};
    while (!done.load() || poll(&ready, 1, 0) > 0) {
      if (poll(&ready, 1, 20) > 0) {
        received += Drain(server);
      }
    }
  });
  std::string output;
  const int status = guarded.Run(
      [&](int output_fd) {
        struct sigaction action = {};
        action.sa_handler = [](int) {};
        action.sa_flags = SA_RESTART;
        sigaction(SIGALRM, &action, nullptr);
        const itimerval timer = {{0, 200}, {0, 200}};
        setitimer(ITIMER_REAL, &timer, nullptr);
        const int fd = socket(AF_INET, SOCK_DGRAM, 0);
        const sockaddr_in address = Loopback(server.port());
        int sent = 0;
        int failed = 0;
        for (int i = 0; i < kSends; ++i) {
          const ssize_t put = sendto(fd, &i, sizeof i, 0,
                                     reinterpret_cast<const sockaddr*>(&address), sizeof address);
          ++(put == sizeof i ? sent : failed);
        }
        const itimerval off = {};
        setitimer(ITIMER_REAL, &off, nullptr);
        const int counts[2] = {sent, failed};
        return write(output_fd, counts, sizeof counts) == sizeof counts ? 0 : 1;
      },
      &output, wait_killable);
  usleep(100'000);
  done.store(true);
  counter.join();
  EXPECT_EQ(status, 0);
  SendCounts result;
  result.received = received.load();
  int counts[2] = {};
  EXPECT_EQ(output.size(), sizeof counts);
  memcpy(counts, output.data(), std::min(output.size(), sizeof counts));
  result.sent = counts[0];
  result.failed = counts[1];
  return result;
}

// Every call is answered, and what an interrupted one had done is not done again. One case is out
// of reach without WAIT_KILLABLE_RECV: a caller that has decided to return for a signal and waits
// for the filter's lock while the answer is being sent. It throws the answer away, although
// SECCOMP_IOCTL_NOTIF_SEND has said that it was delivered (seccomp_do_user_notification()).
TEST_P(WaysTest, SignalsLoseNoCall) {
  const SendCounts counts = SendUnderSignals(GetParam(), false);
  EXPECT_EQ(counts.sent, kSends);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_GE(counts.received, kSends);
  EXPECT_LE(counts.received, kSends + kSends / 500);
}

TEST_P(WaysTest, SignalsDoubleNoCallWhereTheFilterWaits) {
  const SendCounts counts = SendUnderSignals(GetParam(), true);
  EXPECT_EQ(counts.sent, kSends);
  EXPECT_EQ(counts.failed, 0);
  EXPECT_EQ(counts.received, kSends);
}

// When every copy of the listener is closed, guarded calls fail: they are never carried out.
TEST_P(WaysTest, WithoutAnAgentCallsFail) {
  const FullServer full;
  const Server server(SOCK_STREAM);
  auto guarded = std::make_unique<Guarded>(
      Policies("enforce", R"("outgoing": {"default": "allow"})"), GetParam());
  int pipes[2] = {-1, -1};
  ASSERT_EQ(pipe(pipes), 0);
  const UniqueFd go_read(pipes[0]);
  const UniqueFd go_write(pipes[1]);
  GuardedProcess process(guarded->Plan(), [&](int output_fd) {
    dup2(go_read.get(), 0);
    return Hostile("without-agent", server.port(), full.port())(output_fd);
  });
  guarded->Attach(process);
  process.Go();
  usleep(300'000);
  guarded.reset();
  ASSERT_TRUE(server.Reached());
  ASSERT_EQ(write(go_write.get(), "g", 1), 1);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_FALSE(server.Reached());
}

INSTANTIATE_TEST_SUITE_P(Ways, WaysTest,
                         testing::Values(Options{true, true}, Options{false, false}),
                         [](const auto& param_info) {
                           return param_info.param.io_uring ? "IoUring" : "Threads";
                         });

}  // namespace
}  // namespace oakum::agent
