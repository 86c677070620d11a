// recvfrom(2), recvmsg(2), recvmmsg(2) on sockets that are carried: the same as natively, to the
// last byte, but for who has sent it; and nothing is lost under signals.
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "test/unit/agent/receive_testing.h"
#include "test/unit/agent/unused_port.h"

namespace oakum::agent {
namespace {

// Hexadecimal text of everything that a call has left behind.
void Show(int fd, const char* what, const void* data, size_t size) {
  dprintf(fd, " %s=", what);
  for (size_t i = 0; i < size; ++i) {
    dprintf(fd, "%02x", static_cast<const unsigned char*>(data)[i]);
  }
}

constexpr char kPattern = 0x5a;
constexpr std::string_view kText = "0123456789abcdefghijklmnopqrstuvwxyz";

// A socket that receives, and one that sends to it.
struct Pair {
  int own;
  int from;
  const sockaddr* own_address;
  socklen_t own_length;

  void Feed(size_t size = kText.size()) const {
    (void)sendto(from, kText.data(), size, 0, own_address, own_length);
  }
  void Drain() const {
    char ignored[8];
    while (recv(own, ignored, sizeof ignored, MSG_DONTWAIT) >= 0) {
    }
  }
};

void TryRecvfrom(int output_fd, const Pair& pair) {
  constexpr std::array kRooms = {-1, 0, 1, 2, 4, 8, 15, 16, 17, 28, 64, 128, 200};
  constexpr std::array kSizes = {size_t{0}, size_t{1}, size_t{10}, kText.size(), size_t{100}};
  for (const int flags : {0, int{MSG_PEEK}, int{MSG_TRUNC}, MSG_PEEK | MSG_TRUNC, int{MSG_WAITALL},
                          int{MSG_OOB}, int{MSG_DONTWAIT}}) {
    for (const int room : kRooms) {
      for (const size_t size : kSizes) {
        pair.Feed(size == 100 ? 0 : kText.size());
        char data[128];
        char name[256];
        memset(data, kPattern, sizeof data);
        memset(name, kPattern, sizeof name);
        auto length = static_cast<socklen_t>(room);
        errno = 0;
        const ssize_t got =
            recvfrom(pair.own, data, size, flags, reinterpret_cast<sockaddr*>(name), &length);
        dprintf(output_fd, "recvfrom %x %d %zu: %zd %d %d", static_cast<unsigned>(flags), room,
                size, got, errno, static_cast<int>(length));
        Show(output_fd, "data", data, 48);
        Show(output_fd, "name", name, 140);
        dprintf(output_fd, "\n");
        pair.Drain();
      }
    }
  }
  // Nothing is there, and what cannot be written.
  char data[8];
  char name[128];
  socklen_t length = sizeof name;
  auto* const address = reinterpret_cast<sockaddr*>(name);
  auto* const bad = reinterpret_cast<char*>(16);  // NOLINT: an address that is not mapped
  dprintf(output_fd, "empty %zd", recvfrom(pair.own, data, 8, MSG_DONTWAIT, address, &length));
  dprintf(output_fd, " %d\n", errno);
  const auto fault = [&](char* buffer, sockaddr* where, socklen_t* size) {
    pair.Feed();
    dprintf(output_fd, "fault %zd", recvfrom(pair.own, buffer, 8, 0, where, size));
    dprintf(output_fd, " %d", errno);
    dprintf(output_fd, " left %zd\n", recv(pair.own, data, 8, MSG_DONTWAIT | MSG_PEEK));
    pair.Drain();
  };
  fault(bad, address, &length);
  fault(data, reinterpret_cast<sockaddr*>(bad), &length);
  fault(data, address, reinterpret_cast<socklen_t*>(bad));
  // An error that the socket has (ip(7), IP_RECVERR) is told once, by a receive that would wait.
  const int on = 1;
  sockaddr_storage own = {};
  socklen_t own_length = sizeof own;
  (void)getsockname(pair.own, reinterpret_cast<sockaddr*>(&own), &own_length);
  const int closed = socket(own.ss_family, SOCK_DGRAM, 0);
  reinterpret_cast<sockaddr_in&>(own).sin_port = 0;  // in both families at the same place
  (void)bind(closed, reinterpret_cast<sockaddr*>(&own), own_length);
  (void)getsockname(closed, reinterpret_cast<sockaddr*>(&own), &own_length);
  HearNobody(closed);
  const bool v6 = own.ss_family == AF_INET6;
  (void)setsockopt(pair.own, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &on,
                   sizeof on);
  (void)sendto(pair.own, data, 1, 0, reinterpret_cast<sockaddr*>(&own), own_length);
  length = sizeof name;
  dprintf(output_fd, "error %zd", recvfrom(pair.own, data, 8, 0, address, &length));
  dprintf(output_fd, " %d\n", errno);
  close(closed);
}

void ShowMessage(int output_fd, const msghdr& header, const char* name, const char* control,
                 size_t control_room) {
  dprintf(output_fd, " namelen %u flags %x controllen %zu", header.msg_namelen,
          static_cast<unsigned>(header.msg_flags), header.msg_controllen);
  Show(output_fd, "name", name, 64);
  // Times differ from run to run; everything else has to be the same.
  std::array<char, 512> shown;
  memcpy(shown.data(), control, control_room);
  for (size_t at = 0; at + sizeof(cmsghdr) <= header.msg_controllen;) {
    cmsghdr record;
    memcpy(&record, control + at, sizeof record);
    if (record.cmsg_level == SOL_SOCKET && record.cmsg_len > CMSG_LEN(0)) {
      memset(shown.data() + at + CMSG_LEN(0), 0, record.cmsg_len - CMSG_LEN(0));
    }
    if (record.cmsg_len < sizeof record) {
      break;
    }
    at += CMSG_ALIGN(record.cmsg_len);
  }
  Show(output_fd, "control", shown.data(), control_room);
  dprintf(output_fd, "\n");
}

void TryRecvmsg(int output_fd, const Pair& pair, int level) {
  const int on = 1;
  setsockopt(pair.own, level, level == IPPROTO_IP ? IP_PKTINFO : IPV6_RECVPKTINFO, &on, sizeof on);
  setsockopt(pair.own, level, level == IPPROTO_IP ? IP_RECVTTL : IPV6_RECVHOPLIMIT, &on, sizeof on);
  setsockopt(pair.own, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on);
  for (const int flags : {0, int{MSG_PEEK}, int{MSG_TRUNC}, int{MSG_CMSG_CLOEXEC}}) {
    for (const size_t control_room :
         {size_t{0}, size_t{8}, size_t{15}, size_t{16}, size_t{20}, size_t{32}, size_t{40},
          size_t{64}, size_t{72}, size_t{100}, size_t{400}}) {
      for (const socklen_t room : {0U, 7U, 16U, 28U, 128U, 500U}) {
        for (const size_t first : {size_t{0}, size_t{3}, size_t{20}}) {
          pair.Feed();
          char data[64];
          char name[512];
          alignas(cmsghdr) char control[512];
          memset(data, kPattern, sizeof data);
          memset(name, kPattern, sizeof name);
          memset(control, kPattern, sizeof control);
          std::array<iovec, 3> pieces = {iovec{data, first}, iovec{data + 30, 0},
                                         iovec{data + 32, first == 20 ? size_t{32} : first}};
          msghdr header = {};
          header.msg_name = room > 0 ? name : nullptr;
          header.msg_namelen = room;
          header.msg_iov = pieces.data();
          header.msg_iovlen = pieces.size();
          header.msg_control = control_room > 0 ? control : nullptr;
          header.msg_controllen = control_room > 0 ? control_room : 40;
          header.msg_flags = -1;
          errno = 0;
          const ssize_t got = recvmsg(pair.own, &header, flags);
          dprintf(output_fd, "recvmsg %x %zu %u %zu: %zd %d", static_cast<unsigned>(flags),
                  control_room, room, first, got, errno);
          Show(output_fd, "data", data, sizeof data);
          ShowMessage(output_fd, header, name, control, control_room);
          pair.Drain();
        }
      }
    }
  }
  const auto odd = [&](const char* what, msghdr header) {
    pair.Feed();
    errno = 0;
    dprintf(output_fd, "%s %zd", what, recvmsg(pair.own, &header, 0));
    dprintf(output_fd, " %d\n", errno);
    pair.Drain();
  };
  char data[8];
  char name[64];
  iovec piece = {data, sizeof data};
  msghdr sound = {};
  sound.msg_iov = &piece;
  sound.msg_iovlen = 1;
  msghdr header = sound;
  header.msg_name = name;
  header.msg_namelen = static_cast<socklen_t>(-1);
  odd("negative name", header);
  header = sound;
  header.msg_iovlen = 1025;
  odd("too many pieces", header);
  header = sound;
  header.msg_iov = reinterpret_cast<iovec*>(16);  // NOLINT: an address that is not mapped
  odd("bad pieces", header);
  header = sound;
  iovec wrong = {data, static_cast<size_t>(-1)};
  header.msg_iov = &wrong;
  odd("bad length", header);
  header = sound;
  header.msg_control = reinterpret_cast<void*>(16);  // NOLINT: an address that is not mapped
  header.msg_controllen = 100;
  odd("bad control", header);
  header = sound;
  header.msg_name = reinterpret_cast<void*>(16);  // NOLINT: an address that is not mapped
  header.msg_namelen = 16;
  odd("bad name", header);
  dprintf(output_fd, "bad header %zd",
          recvmsg(pair.own, reinterpret_cast<msghdr*>(16), MSG_DONTWAIT));  // NOLINT
  dprintf(output_fd, " %d\n", errno);
}

void TryRecvmmsg(int output_fd, const Pair& pair) {
  for (const int flags : {0, int{MSG_DONTWAIT}, int{MSG_WAITFORONE}, int{MSG_PEEK}}) {
    for (const unsigned count : {0U, 1U, 2U, 4U}) {
      for (const int feed : {1, 2, 3}) {
        if (flags == 0 && static_cast<int>(count) > feed) {
          continue;  // would wait
        }
        if (flags == MSG_PEEK && count > 1) {
          continue;  // the same datagram again and again
        }
        for (int i = 0; i < feed; ++i) {
          pair.Feed(static_cast<size_t>(5 + i));
        }
        char data[4][32];
        char names[4][64];
        memset(data, kPattern, sizeof data);
        memset(names, kPattern, sizeof names);
        std::array<iovec, 4> pieces = {};
        std::array<mmsghdr, 4> messages = {};
        for (size_t i = 0; i < 4; ++i) {
          pieces[i] = {data[i], i == 1 ? size_t{3} : size_t{32}};
          messages[i].msg_hdr.msg_name = names[i];
          messages[i].msg_hdr.msg_namelen = i == 2 ? 4 : 64;
          messages[i].msg_hdr.msg_iov = &pieces[i];
          messages[i].msg_hdr.msg_iovlen = 1;
          messages[i].msg_len = 77;
        }
        errno = 0;
        const int got = recvmmsg(pair.own, messages.data(), count, flags, nullptr);
        dprintf(output_fd, "recvmmsg %x %u %d: %d %d", static_cast<unsigned>(flags), count, feed,
                got, errno);
        for (size_t i = 0; i < 4; ++i) {
          dprintf(output_fd, " | %u %u %x", messages[i].msg_len, messages[i].msg_hdr.msg_namelen,
                  static_cast<unsigned>(messages[i].msg_hdr.msg_flags));
          Show(output_fd, "data", data[i], 32);
          Show(output_fd, "name", names[i], 32);
        }
        dprintf(output_fd, "\n");
        pair.Drain();
      }
    }
  }
  // The timeout is looked at after each message only: one comes, and then it has passed.
  for (const timespec limit : {timespec{0, 0}, timespec{0, 1}, timespec{-1, 0},
                               timespec{0, 1'000'000'000}, timespec{100, 0}}) {
    pair.Feed();
    pair.Feed();
    char data[32];
    iovec piece = {data, sizeof data};
    std::array<mmsghdr, 2> messages = {};
    for (mmsghdr& message : messages) {
      message.msg_hdr.msg_iov = &piece;
      message.msg_hdr.msg_iovlen = 1;
    }
    timespec left = limit;
    errno = 0;
    const int got = recvmmsg(pair.own, messages.data(), 2, 0, &left);
    dprintf(output_fd, "timeout %d %d, %s\n", got, errno,
            left.tv_sec == limit.tv_sec && left.tv_nsec == limit.tv_nsec ? "kept"
            : left.tv_sec == 99                                          ? "counted"
                                                                         : "none");
    pair.Drain();
  }
}

void TryWaiting(int output_fd, const Pair& pair) {
  char data[64];
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  const auto receive = [&](int flags) {
    length = sizeof name;
    errno = 0;
    return recvfrom(pair.own, data, sizeof data, flags, reinterpret_cast<sockaddr*>(&name),
                    &length);
  };
  const timeval limit = {0, 30'000};
  setsockopt(pair.own, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  dprintf(output_fd, "timed out %zd", receive(0));
  dprintf(output_fd, " %d\n", errno);
  const timeval never = {};
  setsockopt(pair.own, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
  // Comes while the call waits.
  const pid_t sender = fork();
  if (sender == 0) {
    usleep(50'000);
    pair.Feed(9);
    _exit(0);
  }
  dprintf(output_fd, "waited %zd %u\n", receive(0), length);
  waitpid(sender, nullptr, 0);
  // A signal without SA_RESTART.
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  const itimerval soon = {{0, 30'000}, {0, 30'000}};  // the first may come before the call
  setitimer(ITIMER_REAL, &soon, nullptr);
  const ssize_t interrupted = receive(0);
  const int error = errno;
  const itimerval no_more = {};
  setitimer(ITIMER_REAL, &no_more, nullptr);
  dprintf(output_fd, "interrupted %zd %d\n", interrupted, error);
}

// A connected socket's errors: nobody is at the other end.
void TryRefused(int output_fd, int own, const sockaddr* nobody, socklen_t length) {
  char data[8];
  sockaddr_storage name = {};
  socklen_t room = sizeof name;
  (void)connect(own, nobody, length);
  (void)send(own, "x", 1, 0);
  errno = 0;
  dprintf(output_fd, "refused %zd",
          recvfrom(own, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&name), &room));
  dprintf(output_fd, " %d\n", errno);
  (void)send(own, "x", 1, 0);
  shutdown(own, SHUT_RDWR);
  errno = 0;
  dprintf(output_fd, "shut down %zd",
          recvfrom(own, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&name), &room));
  dprintf(output_fd, " %d\n", errno);
  dprintf(output_fd, "and %zd\n",
          recvfrom(own, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&name), &room));
}

class ReceiveTest : public testing::TestWithParam<int> {};

TEST_P(ReceiveTest, IsTheSameAsNatively) {
  const int domain = GetParam();
  const Bound own = BindLoopback(domain);
  const Bound from = BindLoopback(domain);
  const std::array connected = {BindLoopback(domain), BindLoopback(domain)};  // one for each run
  const Bound nobody = BindLoopback(domain);
  HearNobody(nobody.fd.get());
  const Pair pair{own.fd.get(), from.fd.get(), reinterpret_cast<const sockaddr*>(&own.address),
                  own.length};
  const auto body = [&](size_t run) {
    return [&, run](int output_fd) {
      TryRecvfrom(output_fd, pair);
      TryRecvmsg(output_fd, pair, domain == AF_INET ? int{IPPROTO_IP} : int{IPPROTO_IPV6});
      TryRecvmmsg(output_fd, pair);
      TryWaiting(output_fd, pair);
      TryRefused(output_fd, connected[run].fd.get(),
                 reinterpret_cast<const sockaddr*>(&nobody.address), nobody.length);
      return 0;
    };
  };
  std::string natively;
  {
    GuardedProcess process({}, body(0));
    process.Go();
    ASSERT_EQ(process.Wait(&natively), 0);
  }
  ASSERT_GT(natively.size(), 10'000U);
  std::string carried;
  {
    Receiving guarded;
    guarded.Carry(own.fd.get());
    guarded.Carry(connected[1].fd.get());
    guarded.Stand(from.endpoint(), NextAddress(from.endpoint()));
    ASSERT_EQ(guarded.Run(body(1), &carried), 0);
    int translated = 0;
    carried = WithoutTranslation(std::move(carried), from.endpoint(), domain, translated);
    EXPECT_GT(translated, 200);
  }
  // Line by line, so that a difference can be read.
  size_t at = 0;
  int differences = 0;
  while (at < natively.size() && differences < 5) {
    const size_t end = natively.find('\n', at);
    const std::string line = natively.substr(at, end - at);
    const std::string other = carried.substr(std::min(at, carried.size()), end - at);
    if (line != other) {
      ADD_FAILURE() << "natively: " << line << "\ncarried:  " << other;
      ++differences;
    }
    at = end + 1;
  }
  EXPECT_EQ(natively.size(), carried.size());
}

// Three datagrams by three calls: the text of each sender, as the socket's family has it.
std::string Senders(int own) {
  std::string out;
  const auto add = [&out](const sockaddr_storage& name, socklen_t length) {
    SockaddrCopy copy;
    copy.storage = name;
    copy.length = length;
    const policy::Endpoint from = ReadEndpoint(copy);
    out += fmt::format("{} {} {}:{} ", name.ss_family, length, from.ip.ToString(), from.port);
  };
  char data[64];
  sockaddr_storage name = {};
  socklen_t length = sizeof name;
  (void)recvfrom(own, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&name), &length);
  add(name, length);
  iovec piece = {data, sizeof data};
  mmsghdr message = {};
  message.msg_hdr.msg_name = &name;
  message.msg_hdr.msg_namelen = sizeof name;
  message.msg_hdr.msg_iov = &piece;
  message.msg_hdr.msg_iovlen = 1;
  name = {};
  (void)recvmsg(own, &message.msg_hdr, 0);
  add(name, message.msg_hdr.msg_namelen);
  name = {};
  message.msg_hdr.msg_namelen = sizeof name;
  (void)recvmmsg(own, &message, 1, 0, nullptr);
  add(name, message.msg_hdr.msg_namelen);
  return out;
}

TEST(ReceiveSenderTest, IsWhomTheGateStandsForInTheSocketsFamily) {
  const Bound v4 = BindLoopback(AF_INET);
  const Bound gate = BindLoopback(AF_INET);
  const Bound stranger = BindLoopback(AF_INET);
  Bound dual;
  dual.fd.Reset(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 any = {};
  any.sin6_family = AF_INET6;
  socklen_t length = sizeof any;
  ASSERT_EQ(bind(dual.fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  ASSERT_EQ(getsockname(dual.fd.get(), reinterpret_cast<sockaddr*>(&any), &length), 0);
  const sockaddr_in dual_v4 = Loopback(ntohs(any.sin6_port));
  const policy::Endpoint server{*policy::IpAddress::Parse("192.0.2.53"), 53};
  Receiving guarded;
  guarded.Carry(v4.fd.get());
  guarded.Carry(dual.fd.get());
  guarded.Stand(gate.endpoint(), server);
  for (int i = 0; i < 3; ++i) {
    (void)sendto(gate.fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&v4.address),
                 v4.length);
    (void)sendto(gate.fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&dual_v4),
                 sizeof dual_v4);
  }
  for (int i = 0; i < 3; ++i) {
    (void)sendto(stranger.fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&v4.address),
                 v4.length);
  }
  std::string output;
  const auto body = [&](int output_fd) {
    for (const int own : {v4.fd.get(), dual.fd.get(), v4.fd.get()}) {
      dprintf(output_fd, "%s\n", Senders(own).c_str());
    }
    return 0;
  };
  EXPECT_EQ(guarded.Run(body, &output), 0);
  const auto thrice = [](const std::string& text) { return text + text + text; };
  EXPECT_EQ(output, thrice("2 16 192.0.2.53:53 ") + "\n" + thrice("10 28 192.0.2.53:53 ") + "\n" +
                        thrice(fmt::format("2 16 127.0.0.1:{} ", stranger.endpoint().port)) + "\n");
}

constexpr int kNumbers = 2000;

// An answer that the agent has sent is dropped by the kernel, without a word to the agent, when a
// signal has woken the caller and the answer comes before the caller holds the lock
// (seccomp_do_user_notification(), "interrupted"). A datagram may be lost by that, as datagrams may
// be, a few of thousands under a storm of signals.
constexpr int kMayBeLost = 20;

// Gets numbers one by one, the next when the one before has been acknowledged or given up. How many
// came; -1 when one came twice or out of order.
int CountUnderSignals(const Pair& pair, bool blocking) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  sigaction(SIGURG, &action, nullptr);
  std::array<int, 2> acknowledged{};
  if (pipe(acknowledged.data()) != 0) {
    return -1;
  }
  const pid_t receiver = getpid();
  const pid_t sender = fork();
  if (sender == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    char ignored = 0;
    for (int number = 0;; ++number) {
      (void)sendto(pair.from, &number, sizeof number, 0, pair.own_address, pair.own_length);
      pollfd ready = {acknowledged[0], POLLIN, 0};
      if (poll(&ready, 1, 200) == 1) {
        (void)!read(acknowledged[0], &ignored, 1);
      }
    }
  }
  const pid_t storm = fork();
  if (storm == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (kill(receiver, SIGURG) == 0) {
      usleep(20);
    }
    _exit(0);
  }
  alarm(60);
  int count = 0;
  for (int last = -1; last < kNumbers;) {
    int number = -1;
    sockaddr_storage name = {};
    socklen_t length = sizeof name;
    const ssize_t got = recvfrom(pair.own, &number, sizeof number, blocking ? 0 : int{MSG_DONTWAIT},
                                 reinterpret_cast<sockaddr*>(&name), &length);
    if (got < 0 && errno == EAGAIN) {
      continue;
    }
    if (got != sizeof number || number <= last || length != pair.own_length) {
      count = -1;
      break;
    }
    last = number;
    ++count;
    (void)!write(acknowledged[1], "a", 1);
  }
  kill(storm, SIGKILL);
  kill(sender, SIGKILL);
  waitpid(storm, nullptr, 0);
  waitpid(sender, nullptr, 0);
  return count;
}

TEST(ReceiveSignalTest, KeepsTheirOrderAndDoublesNone) {
  for (const bool blocking : {true, false}) {
    const Bound own = BindLoopback(AF_INET);
    const Bound from = BindLoopback(AF_INET);
    Receiving guarded;
    guarded.Carry(own.fd.get());
    const Pair pair{own.fd.get(), from.fd.get(), reinterpret_cast<const sockaddr*>(&own.address),
                    own.length};
    std::string output;
    const auto body = [&](int output_fd) {
      dprintf(output_fd, "%d", CountUnderSignals(pair, blocking));
      return 0;
    };
    EXPECT_EQ(guarded.Run(body, &output), 0);
    EXPECT_GE(atoi(output.c_str()), kNumbers - kMayBeLost)
        << (blocking ? "" : "not ") << "blocking";
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ReceiveTest, testing::Values(AF_INET, AF_INET6));

}  // namespace
}  // namespace oakum::agent
