// Servers of every make under a policy that says who may connect: peers that may not are gone
// before the program sees them, and those that may are served as if nothing were there.
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

// Both are addresses of this machine; the policy knows the first one only.
constexpr char kFriend[] = "127.0.0.1";
constexpr char kStranger[] = "127.0.0.2";

std::string FriendsOnly() {
  return Policies("enforce", fmt::format(R"("outgoing": {{"default": "allow"}}, "dns": "allow",
      "incoming": {{"default": "deny", "allow": ["* from {}"]}})",
                                         kFriend));
}

sockaddr_in At(const char* ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, ip, &address.sin_addr);
  return address;
}

int Socket(int domain, int type) {
  const int fd = socket(domain, type, 0);
  if (fd < 0) {
    std::abort();
  }
  return fd;
}

// A connection to 127.0.0.1:`port` that comes from `source`.
UniqueFd ConnectFrom(const char* source, uint16_t port) {
  UniqueFd fd(Socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC));
  const sockaddr_in own = At(source, 0);
  const sockaddr_in address = At("127.0.0.1", port);
  const timeval limit = {20, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own), 0);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// What the server makes of it: "served", "gone", or an error: EAGAIN for nothing within 20 seconds.
std::string Fate(const UniqueFd& fd) {
  char buffer[8] = {};
  ssize_t got = -1;
  do {
    got = recv(fd.get(), buffer, sizeof buffer, 0);
    // The manager has tried io_uring on this thread: its end comes as work that interrupts.
  } while (got < 0 && errno == EINTR);
  return got > 0 ? "served" : got == 0 || errno == ECONNRESET ? "gone" : strerrorname_np(errno);
}

// The child's side. A server ends when it has served as many peers as it was told.
int Listening(int flags = 0, int backlog = 1024) {
  const int fd = Socket(AF_INET, SOCK_STREAM | flags);
  const sockaddr_in address = At("127.0.0.1", 0);
  const int failed =
      bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) | listen(fd, backlog);
  return failed == 0 ? fd : -1;
}

uint16_t PortOf(int fd) {
  sockaddr_in6 own = {};  // the port is at the same place in a sockaddr_in
  socklen_t length = sizeof own;
  getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length);
  return ntohs(own.sin6_port);
}

bool Serve(int accepted) {
  const bool served = accepted >= 0 && send(accepted, "hi", 2, MSG_NOSIGNAL) == 2;
  if (accepted >= 0) {
    close(accepted);
  }
  return served;
}

int BlockingServer(int fd, int peers) {
  while (peers > 0) {
    if (!Serve(accept(fd, nullptr, nullptr))) {
      return 1;
    }
    --peers;
  }
  return 0;
}

int TimeoutServer(int fd, int peers) {
  const timeval limit = {0, 50'000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  while (peers > 0) {
    const int accepted = accept(fd, nullptr, nullptr);
    if (accepted < 0 && errno != EAGAIN) {
      return 1;
    }
    peers -= Serve(accepted) ? 1 : 0;
  }
  return 0;
}

// Readiness says only that it is worth a try.
int PollServer(int fd, int peers) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  while (peers > 0) {
    pollfd ready = {fd, POLLIN, 0};
    if (poll(&ready, 1, 30'000) != 1) {
      return 1;
    }
    const int accepted = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (accepted < 0 && errno != EAGAIN) {
      return 2;
    }
    peers -= Serve(accepted) ? 1 : 0;
  }
  return 0;
}

// Only a new connection makes an edge, so EAGAIN has to mean that nobody is left.
int EdgeServer(int fd, int peers) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  const int epoll = epoll_create1(0);
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  while (peers > 0) {
    if (epoll_wait(epoll, &event, 1, 30'000) != 1) {
      return 1;
    }
    int accepted = -1;
    while ((accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK)) >= 0) {
      peers -= Serve(accepted) ? 1 : 0;
    }
    if (errno != EAGAIN) {
      return 2;
    }
  }
  return 0;
}

// `workers` processes or threads that wait for the same listener; each serves until all have been.
int ForkedServers(int fd, int peers) {
  std::array<pid_t, 4> workers{};
  int pipes[2] = {-1, -1};
  (void)!pipe(pipes);
  for (pid_t& worker : workers) {
    worker = fork();
    if (worker == 0) {
      for (;;) {
        const bool served = Serve(accept(fd, nullptr, nullptr));
        (void)!write(pipes[1], served ? "+" : "-", 1);
      }
    }
  }
  int failures = 0;
  for (char sign = 0; peers > 0 && read(pipes[0], &sign, 1) == 1; --peers) {
    failures += sign == '+' ? 0 : 1;
  }
  for (const pid_t worker : workers) {
    kill(worker, SIGKILL);
    waitpid(worker, nullptr, 0);
  }
  return failures;
}

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child
int ThreadServers(int fd, int peers) {
  int pipes[2] = {-1, -1};
  (void)!pipe(pipes);
  for (int i = 0; i < 16; ++i) {
    std::thread([=] {
      for (;;) {
        const bool served = Serve(accept(fd, nullptr, nullptr));
        (void)!write(pipes[1], served ? "+" : "-", 1);
      }
    }).detach();
  }
  int failures = 0;
  for (char sign = 0; peers > 0 && read(pipes[0], &sign, 1) == 1; --peers) {
    failures += sign == '+' ? 0 : 1;
  }
  _exit(failures);
}
#endif

struct Make {
  const char* name;
  int (*serve)(int fd, int peers);
};
constexpr Make kMakes[] = {{"Blocking", BlockingServer}, {"Timeout", TimeoutServer},
                           {"Poll", PollServer},         {"Edge", EdgeServer},
#if !defined(__SANITIZE_THREAD__)
                           {"Threads", ThreadServers},
#endif
                           {"Processes", ForkedServers}};

struct IncomingCase {
  Make make;
  bool io_uring;
};

// A child that listens: `serve` gets the socket; it starts when Go() is called.
class ListeningChild {
 public:
  using Body = std::function<int(int fd)>;
  ListeningChild(Guarded* guarded, const std::function<int()>& listening, const Body& serve) {
    EXPECT_EQ(pipe2(port_, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(go_, O_CLOEXEC), 0);
    process_ = std::make_unique<GuardedProcess>(
        guarded != nullptr ? guarded->Plan() : oci::SeccompPlan{}, [=, this](int) {
          const int fd = listening();
          const uint16_t port = fd >= 0 ? PortOf(fd) : 0;
          char go = 0;
          if (write(port_[1], &port, sizeof port) != sizeof port || port == 0 ||
              read(go_[0], &go, 1) != 1) {
            return 100;
          }
          return serve(fd);
        });
    if (guarded != nullptr) {
      guarded->Attach(*process_);
    }
    process_->Go();
    EXPECT_EQ(read(port_[0], &port_number_, sizeof port_number_), ssize_t{sizeof port_number_});
  }
  ~ListeningChild() {
    for (const int fd : {port_[0], port_[1], go_[0], go_[1]}) {
      close(fd);
    }
  }
  ListeningChild(const ListeningChild&) = delete;
  ListeningChild& operator=(const ListeningChild&) = delete;

  [[nodiscard]] uint16_t port() const { return port_number_; }
  void Go() { EXPECT_EQ(write(go_[1], "g", 1), 1); }
  [[nodiscard]] int Wait() { return process_->Wait(); }
  [[nodiscard]] pid_t pid() const { return process_->pid(); }

 private:
  int port_[2] = {-1, -1};
  int go_[2] = {-1, -1};
  uint16_t port_number_ = 0;
  std::unique_ptr<GuardedProcess> process_;
};

class IncomingTest : public testing::TestWithParam<IncomingCase> {};

TEST_P(IncomingTest, StrangersAreGoneAndFriendsAreServed) {
  const auto& make = GetParam().make;
  const auto fates = [&](Guarded* guarded, int served) {
    ListeningChild child(
        guarded, [] { return Listening(); }, [&](int fd) { return make.serve(fd, served); });
    std::vector<UniqueFd> peers;
    std::string out;
    // Some wait in the queue when the server begins, others come while it waits.
    peers.push_back(ConnectFrom(kStranger, child.port()));
    peers.push_back(ConnectFrom(kFriend, child.port()));
    child.Go();
    out += Fate(peers[0]) + " " + Fate(peers[1]);
    for (const char* source : {kStranger, kStranger, kFriend}) {
      peers.push_back(ConnectFrom(source, child.port()));
      out += " " + Fate(peers.back());
    }
    EXPECT_EQ(child.Wait(), 0) << make.name;
    return out;
  };
  ASSERT_EQ(fates(nullptr, 5), "served served served served served");
  Guarded guarded(FriendsOnly(), {GetParam().io_uring, true});
  EXPECT_EQ(fates(&guarded, 2), "gone served gone gone served");
  int refused = 0;
  for (const Event& event : guarded.sink().events()) {
    EXPECT_EQ(event.operation, policy::Operation::kAccept);
    EXPECT_EQ(event.verdict, EventVerdict::kDeny);
    ++refused;
  }
  EXPECT_EQ(refused, 3);
}

// A queue full of peers that may not does not hide the one behind them that may.
TEST_P(IncomingTest, AFriendBehindManyStrangersIsServed) {
  constexpr int kStrangers = 300;
  const auto& make = GetParam().make;
  Guarded guarded(FriendsOnly(), {GetParam().io_uring, true});
  ListeningChild child(
      &guarded, [] { return Listening(); }, [&](int fd) { return make.serve(fd, 1); });
  std::vector<UniqueFd> strangers;
  strangers.reserve(kStrangers);
  for (int i = 0; i < kStrangers; ++i) {
    strangers.push_back(ConnectFrom(kStranger, child.port()));
  }
  const UniqueFd a_friend = ConnectFrom(kFriend, child.port());
  const auto start = std::chrono::steady_clock::now();
  child.Go();
  EXPECT_EQ(Fate(a_friend), "served");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(child.Wait(), 0) << make.name;
  for (const UniqueFd& stranger : strangers) {
    EXPECT_EQ(Fate(stranger), "gone");
  }
}

std::vector<IncomingCase> AllCases() {
  std::vector<IncomingCase> cases;
  for (const Make& make : kMakes) {
    for (const bool io_uring : {true, false}) {
      cases.push_back({make, io_uring});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Servers, IncomingTest, testing::ValuesIn(AllCases()),
                         [](const auto& param_info) {
                           return std::string(param_info.param.make.name) +
                                  (param_info.param.io_uring ? "IoUring" : "Plain");
                         });

// bind and listen of everything that is not allowed, by address and by port.
TEST(IncomingSessionTest, BindAndListenGoByAddressAndPort) {
  const auto body = [](int) {
    int failures = 0;
    const auto attempt = [&](const char* ip, uint16_t port, int type, int error) {
      const int fd = Socket(AF_INET, type);
      const sockaddr_in address = At(ip, port);
      const int got =
          bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
      failures += got == error ? 0 : 1;
      close(fd);
    };
    attempt("127.0.0.1", 41'001, SOCK_STREAM, 0);
    attempt("127.0.0.1", 41'001, SOCK_DGRAM, 0);
    attempt("127.0.0.1", 41'002, SOCK_STREAM, EACCES);
    attempt("127.0.0.2", 41'001, SOCK_STREAM, EACCES);
    attempt("0.0.0.0", 41'001, SOCK_DGRAM, EACCES);
    return failures;
  };
  GuardedProcess bare({}, body);
  bare.Go();
  ASSERT_EQ(bare.Wait(), 3) << "the ways are not open natively";
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "deny"},
      "incoming": {"default": "deny", "allow": ["127.0.0.1:41001"]})"));
  EXPECT_EQ(guarded.Run(body), 0);
  EXPECT_EQ(guarded.sink().events().size(), 3U);
  Guarded all(Policies("enforce", R"("outgoing": {"default": "deny"},
      "incoming": {"default": "deny"})"));
  EXPECT_EQ(all.Run(body), 2);
}

// The kernel gives a socket that listens without having been bound a port of its own choice: that
// port is decided on, also where IP_BIND_ADDRESS_NO_PORT has put the choice off.
TEST(IncomingSessionTest, ListeningOnAPortOfTheKernelsChoiceIsDecidedOnThatPort) {
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  int first = 0;
  int last = 0;
  ASSERT_TRUE(range >> first >> last);
  const auto body = [](int) {
    int listening = 0;
    for (const bool no_port : {false, true}) {
      const int fd = Socket(AF_INET, SOCK_STREAM);
      const sockaddr_in address = At("127.0.0.1", 0);
      const int one = 1;
      if (no_port) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
          return 1000;
        }
      }
      if (listen(fd, 1) == 0) {
        listening += PortOf(fd) != 0 ? 1 : 10;
      } else {
        listening += errno == EACCES ? 0 : 100;
      }
    }
    return listening;
  };
  GuardedProcess bare({}, body);
  bare.Go();
  ASSERT_EQ(bare.Wait(), 2) << "the way is not open natively";
  const auto policy = [&](std::string_view rule) {
    return Policies("enforce", fmt::format(R"("outgoing": {{"default": "deny"}},
        "incoming": {{{}:{}-{}"]}})",
                                           rule, first, last));
  };
  Guarded denied(policy(R"("default": "allow", "deny": ["*)"));
  EXPECT_EQ(denied.Run(body), 0);
  Guarded allowed(policy(R"("default": "deny", "allow": ["*)"));
  EXPECT_EQ(allowed.Run(body), 2);
}

// A listener that the container was started with, or that was sent to it: nothing was bound and no
// listen(2) was decided.
TEST(IncomingSessionTest, AnInheritedListenerIsGuarded) {
  const Server server(SOCK_STREAM);
  const auto body = [&](int) { return PollServer(server.fd(), 1); };
  {
    GuardedProcess bare({}, body);
    bare.Go();
    ASSERT_EQ(Fate(ConnectFrom(kStranger, server.port())), "served");
    ASSERT_EQ(bare.Wait(), 0);
  }
  Guarded guarded(FriendsOnly());
  GuardedProcess process(guarded.Plan(), body);
  guarded.Attach(process);
  process.Go();
  EXPECT_EQ(Fate(ConnectFrom(kStranger, server.port())), "gone");
  EXPECT_EQ(Fate(ConnectFrom(kFriend, server.port())), "served");
  EXPECT_EQ(process.Wait(), 0);
}

// An IPv4 peer of an IPv6 listener is the IPv4 address that it is.
TEST(IncomingSessionTest, AMappedPeerIsItsIpv4Address) {
  const auto listening = [] {
    const int fd = Socket(AF_INET6, SOCK_STREAM);
    sockaddr_in6 address = {};
    address.sin6_family = AF_INET6;
    return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                   listen(fd, 16) == 0
               ? fd
               : -1;
  };
  for (const bool is_guarded : {false, true}) {
    Guarded guarded(FriendsOnly());
    ListeningChild child(is_guarded ? &guarded : nullptr, listening,
                         [=](int fd) { return BlockingServer(fd, is_guarded ? 1 : 2); });
    child.Go();
    EXPECT_EQ(Fate(ConnectFrom(kStranger, child.port())), is_guarded ? "gone" : "served");
    EXPECT_EQ(Fate(ConnectFrom(kFriend, child.port())), "served");
    EXPECT_EQ(child.Wait(), 0);
  }
}

// Listeners of one port by SO_REUSEPORT: the kernel spreads the peers over them.
TEST(IncomingSessionTest, ListenersThatShareAPort) {
  std::array<int, 4> listeners{};
  const auto listening = [&] {
    sockaddr_in address = At("127.0.0.1", 0);
    for (int& fd : listeners) {
      fd = Socket(AF_INET, SOCK_STREAM);
      const int one = 1;
      setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
      if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
          listen(fd, 64) != 0) {
        return -1;
      }
      address.sin_port = htons(PortOf(fd));
    }
    return listeners[0];
  };
  const auto serve = [&](int) {
    std::array<pollfd, 4> ready{};
    for (size_t i = 0; i < ready.size(); ++i) {
      fcntl(listeners[i], F_SETFL, O_NONBLOCK);
      ready[i] = {listeners[i], POLLIN, 0};
    }
    for (int left = 8; left > 0;) {
      if (poll(ready.data(), ready.size(), 30'000) <= 0) {
        return 1;
      }
      for (const pollfd& listener : ready) {
        left -= (listener.revents & POLLIN) != 0 && Serve(accept(listener.fd, nullptr, nullptr))
                    ? 1
                    : 0;
      }
    }
    return 0;
  };
  Guarded guarded(FriendsOnly());
  ListeningChild child(&guarded, listening, serve);
  child.Go();
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(Fate(ConnectFrom(kStranger, child.port())), "gone");
    EXPECT_EQ(Fate(ConnectFrom(kFriend, child.port())), "served");
  }
  EXPECT_EQ(child.Wait(), 0);
}

// Threads and processes that die while they wait for a peer leave no call behind, and take no peer
// with them.
TEST(IncomingSessionTest, WaitersThatDieLeaveNothingBehind) {
  Guarded guarded(FriendsOnly());
  int pipes[2] = {-1, -1};
  ASSERT_EQ(pipe(pipes), 0);
  const UniqueFd done_read(pipes[0]);
  const UniqueFd done_write(pipes[1]);
  ASSERT_EQ(pipe2(pipes, O_NONBLOCK), 0);
  const UniqueFd seen_read(pipes[0]);
  const UniqueFd seen_write(pipes[1]);
  ListeningChild child(
      &guarded, [] { return Listening(); },
      [&](int fd) {
        // On a busy machine one may die before it has called.
        char seen = 0;
        for (int i = 0; i < 50 || read(seen_read.get(), &seen, 1) != 1; ++i) {
          const pid_t waiter = fork();
          if (waiter == 0) {
            accept(fd, nullptr, nullptr);
            _exit(0);
          }
          usleep(static_cast<useconds_t>(i * 37 % 1000));
          kill(waiter, SIGKILL);
          waitpid(waiter, nullptr, 0);
        }
        if (write(done_write.get(), "d", 1) != 1) {
          return 1;
        }
        return BlockingServer(fd, 1);
      });
  child.Go();
  const auto waiting = [&] {
    const auto list = guarded.manager().List();
    return list.size() == 1 ? list[0].waiting : 99;
  };
  for (int i = 0; i < 3000 && guarded.manager().Totals().calls <= 2; ++i) {
    usleep(10'000);
  }
  EXPECT_GT(guarded.manager().Totals().calls, 2U);
  ASSERT_EQ(write(seen_write.get(), "s", 1), 1);
  char done = 0;
  ASSERT_EQ(read(done_read.get(), &done, 1), 1);
  // One call is left, that of the server which is still there.
  for (int i = 0; i < 1000 && waiting() != 1; ++i) {
    usleep(10'000);
  }
  EXPECT_EQ(waiting(), 1U);
  EXPECT_EQ(Fate(ConnectFrom(kFriend, child.port())), "served");
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace oakum::agent
