// Policies that change when a container has been at work: what it has been carried to, and what it
// has written meanwhile.
#include <sys/mount.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "test/unit/agent/dns_testing.h"
#include "test/unit/agent/proxy/socks_server.h"
#include "test/unit/agent/relay_testing.h"

namespace oakum::agent {
namespace {

std::shared_ptr<const policy::PolicySet> Parse(const std::string& text) {
  auto policies = policy::PolicySet::Parse(text, "reload.json");
  EXPECT_TRUE(policies.has_value()) << policies.error().ToString();
  return *policies;
}

// A guarded program and its test take turns.
class Turns {
 public:
  Turns() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_), 0); }
  ~Turns() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;
  // The program: it is the test's turn, and then its own again.
  [[nodiscard]] bool Give() const {
    char byte = 0;
    return write(ends_[0], "x", 1) == 1 && read(ends_[0], &byte, 1) == 1;
  }
  // The test: waits for its turn, and gives it back.
  [[nodiscard]] bool Await() const {
    char byte = 0;
    return PollFor(ends_[1], POLLIN, kPatience) != 0 && read(ends_[1], &byte, 1) == 1;
  }
  void GiveBack() const { EXPECT_EQ(write(ends_[1], "x", 1), 1); }

 private:
  int ends_[2] = {-1, -1};
};

// A socket that an earlier policy carried is taken back with AF_UNSPEC, and is then what it is
// connected to.
TEST(ReloadCarriedTest, WhatWasCarriedBeforeIsForgottenWithItsConnection) {
  const SocksServer proxy(Echo);
  const Server server(SOCK_STREAM);
  Guarded guarded(Redirecting(proxy.port()));
  const Turns turns;
  GuardedProcess process(guarded.Plan(), [&](int) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in peer = {};
    const auto peer_port = [&] {
      socklen_t length = sizeof peer;
      return getpeername(fd.get(), reinterpret_cast<sockaddr*>(&peer), &length) == 0
                 ? ntohs(peer.sin_port)
                 : 0;
    };
    CHECK_THAT(Connect(fd.get(), Elsewhere(80)) == 0);
    CHECK_THAT(peer_port() == 80);
    CHECK_THAT(turns.Give());
    sockaddr_in nowhere = {};
    nowhere.sin_family = AF_UNSPEC;
    CHECK_THAT(Connect(fd.get(), nowhere) == 0);
    CHECK_THAT(Connect(fd.get(), Loopback(server.port())) == 0);
    CHECK_THAT(peer_port() == server.port());
    return 0;
  });
  guarded.Attach(process);
  process.Go();
  ASSERT_TRUE(turns.Await());
  guarded.manager().SetPolicies(Parse(Policies("enforce", R"("outgoing": {"default": "allow"})")));
  turns.GiveBack();
  EXPECT_EQ(process.Wait(), 0) << "line";
}

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child

constexpr int kNotPermitted = 77;
constexpr char kServer[] = "127.0.0.11";  // of those on loopback the only one that is ever believed

int ConnectDatagram(const char* ip, uint16_t port) {
  sockaddr_in address = Loopback(port);
  inet_pton(AF_INET, ip, &address.sin_addr);
  return Connect(UniqueFd(socket(AF_INET, SOCK_DGRAM, 0)).get(), address);
}

// Says that every name is at 192.0.2.7 (RFC 5737).
void AnswerAll(int fd) {
  char query[512];
  sockaddr_in from = {};
  socklen_t length = sizeof from;
  for (ssize_t got = 0; (got = recvfrom(fd, query, sizeof query, 0,
                                        reinterpret_cast<sockaddr*>(&from), &length)) > 0;) {
    const std::string answer =
        AnswerBytes({query, static_cast<size_t>(got)},
                    {RecordBytes("", dns::kTypeA, 60, IpBytes("192.0.2.7"))});
    (void)sendto(fd, answer.data(), answer.size(), 0, reinterpret_cast<const sockaddr*>(&from),
                 length);
  }
}

// The program writes kServer into its resolv.conf, asks it once a policy has rules for names, and
// connects to where it was told.
int AskLate(const Turns& turns) {
  const UniqueFd file(open("/etc/resolv.conf", O_WRONLY | O_TRUNC | O_CLOEXEC));
  CHECK_THAT(WriteAll(file.get(), fmt::format("nameserver {}\n", kServer)));
  CHECK_THAT(turns.Give());
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM, 0));
  const timeval limit = {kPatience / 1000, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  sockaddr_in server = Loopback(53);
  inet_pton(AF_INET, kServer, &server.sin_addr);
  const std::string query = QueryBytes(1, "good.example", dns::kTypeA);
  char answer[512];
  CHECK_THAT(sendto(fd.get(), query.data(), query.size(), 0,
                    reinterpret_cast<const sockaddr*>(&server),
                    sizeof server) == static_cast<ssize_t>(query.size()));
  CHECK_THAT(recv(fd.get(), answer, sizeof answer, 0) > 0);
  return ConnectDatagram("192.0.2.7", 80);
}

// What the program gets in a network and with a resolv.conf of its own, which is `at_start` at
// first.
int RunWith(const std::string& at_start) {
  std::string path = testing::TempDir() + "resolv-XXXXXX";
  const UniqueFd file(mkstemp(path.data()));
  EXPECT_TRUE(WriteAll(file.get(), at_start));
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount(path.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr) != 0 ||
        !EnterEmptyNetwork()) {
      _exit(kNotPermitted);
    }
    const UniqueFd server(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = Loopback(53);
    inet_pton(AF_INET, kServer, &address.sin_addr);
    if (bind(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      _exit(1);
    }
    std::thread([&] { AnswerAll(server.get()); }).detach();
    Guarded guarded(Policies("enforce", R"("outgoing": {"default": "deny"}, "dns": "allow")"));
    const Turns turns;
    GuardedProcess process(guarded.Plan(), [&](int) { return AskLate(turns); });
    guarded.Attach(process);
    process.Go();
    if (!turns.Await()) {
      _exit(2);
    }
    guarded.manager().SetPolicies(Parse(Policies("enforce", R"("outgoing": {"default": "deny",
        "allow": ["good.example:80"]}, "dns": "allow")")));
    turns.GiveBack();
    _exit(process.Wait());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  std::filesystem::remove(path);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ReloadCarriedTest, TheNameServersAreThoseThatTheContainerBeganWith) {
  const int believed = RunWith(fmt::format("nameserver {}\n", kServer));
  if (believed == kNotPermitted) {
    GTEST_SKIP() << "needs root";
  }
  EXPECT_EQ(believed, ENETUNREACH) << "allowed, in a network without any route";
  EXPECT_EQ(RunWith("nameserver 192.0.2.53\n"), EACCES);
}

#endif

}  // namespace
}  // namespace oakum::agent
