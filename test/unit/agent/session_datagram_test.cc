// Datagrams that are carried: DNS to any server is answered by the agent, the rest goes by way of a
// SOCKS5 proxy's UDP ASSOCIATE, and programs see who they asked.
#include <sys/wait.h>

#include <array>
#include <string>

#include "test/unit/agent/datagram_testing.h"
#include "test/unit/agent/udp_proxy.h"

namespace oakum::agent {
namespace {

// A query for the A record of a name of one label.
std::string Query(uint16_t id, std::string_view label) {
  std::string out;
  out += static_cast<char>(id >> 8);
  out += static_cast<char>(id & 0xff);
  out += std::string("\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 10);
  out += static_cast<char>(label.size());
  out += label;
  out += std::string("\x04test\x00\x00\x01\x00\x01", 10);
  return out;
}

// Whether it answers that query with one synthetic address.
bool IsAnswer(const char* bytes, ssize_t size, uint16_t id) {
  return size > 16 && static_cast<uint8_t>(bytes[0]) == id >> 8 &&
         static_cast<uint8_t>(bytes[1]) == (id & 0xff) && (bytes[2] & 0x80) != 0 &&
         (bytes[3] & 0xf) == 0 && bytes[7] == 1 && static_cast<uint8_t>(bytes[size - 4]) == 198;
}

sockaddr_in6 V6(const char* text, uint16_t port) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  inet_pton(AF_INET6, text, &address.sin6_addr);
  return address;
}

constexpr uint32_t kServer = 0x7f000035;  // 127.0.0.53: should anything leak, it stays here
template <typename Address>
bool Same(const Address& a, const Address& b) {
  return memcmp(&a, &b, sizeof a) == 0;
}

// Asks `server` over an unconnected socket of `domain`; 0 when the answer came from there.
template <typename Address>
int AskUnconnected(int domain, const Address& server, int flags, uint16_t id) {
  const UniqueFd fd = UdpSocket(domain, flags);
  const std::string query = Query(id, "unconnected");
  if (sendto(fd.get(), query.data(), query.size(), 0, reinterpret_cast<const sockaddr*>(&server),
             sizeof server) != static_cast<ssize_t>(query.size())) {
    return errno;
  }
  if ((flags & SOCK_NONBLOCK) != 0 && !WaitForInput(fd.get())) {
    return ETIMEDOUT;
  }
  char answer[512] = {};
  Address from = {};
  socklen_t length = sizeof from;
  const ssize_t got =
      recvfrom(fd.get(), answer, sizeof answer, 0, reinterpret_cast<sockaddr*>(&from), &length);
  return !IsAnswer(answer, got, id)                    ? EBADMSG
         : length == sizeof from && Same(from, server) ? 0
                                                       : EXDEV;
}

// The same with sendmsg(2), recvmsg(2) and control messages both ways.
int AskWithMessages(uint16_t id) {
  const UniqueFd fd = UdpSocket();
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  sockaddr_in server = V4(kServer, 53);
  std::string query = Query(id, "messages");
  std::array<iovec, 2> pieces = {iovec{query.data(), 7}, iovec{query.data() + 7, query.size() - 7}};
  msghdr out = {};
  out.msg_name = &server;
  out.msg_namelen = sizeof server;
  out.msg_iov = pieces.data();
  out.msg_iovlen = pieces.size();
  if (sendmsg(fd.get(), &out, 0) != static_cast<ssize_t>(query.size())) {
    return errno;
  }
  char answer[512] = {};
  pieces = {iovec{answer, 3}, iovec{answer + 3, sizeof answer - 3}};
  sockaddr_in6 room = {};
  alignas(cmsghdr) char control[64];
  msghdr in = {};
  in.msg_name = &room;
  in.msg_namelen = sizeof room;
  in.msg_iov = pieces.data();
  in.msg_iovlen = pieces.size();
  in.msg_control = control;
  in.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(fd.get(), &in, 0);
  const cmsghdr* record = CMSG_FIRSTHDR(&in);
  if (!IsAnswer(answer, got, id)) {
    return EBADMSG;
  }
  if (record == nullptr || record->cmsg_type != IP_PKTINFO || in.msg_flags != 0) {
    return EPROTO;
  }
  return in.msg_namelen == sizeof server && memcmp(&room, &server, sizeof server) == 0 ? 0 : EXDEV;
}

// Two servers in one sendmmsg(2), both answers in one recvmmsg(2).
int AskManyAtOnce(uint16_t id) {
  const UniqueFd fd = UdpSocket();
  std::array<sockaddr_in, 2> servers = {V4(kServer, 53), V4(kServer + 1, 53)};
  std::array<std::string, 2> queries = {Query(id, "one"),
                                        Query(static_cast<uint16_t>(id + 1), "two")};
  std::array<iovec, 2> pieces = {};
  std::array<mmsghdr, 2> messages = {};
  for (size_t i = 0; i < 2; ++i) {
    pieces[i] = {queries[i].data(), queries[i].size()};
    messages[i].msg_hdr.msg_name = &servers[i];
    messages[i].msg_hdr.msg_namelen = sizeof servers[i];
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  if (sendmmsg(fd.get(), messages.data(), 2, 0) != 2) {
    return errno;
  }
  char answers[2][512] = {};
  std::array<sockaddr_in, 2> from = {};
  for (size_t i = 0; i < 2; ++i) {
    pieces[i] = {answers[i], sizeof answers[i]};
    messages[i].msg_hdr.msg_name = &from[i];
    messages[i].msg_hdr.msg_namelen = sizeof from[i];
  }
  if (recvmmsg(fd.get(), messages.data(), 2, 0, nullptr) != 2) {
    return EBADMSG;
  }
  for (size_t i = 0; i < 2; ++i) {
    const size_t which = Same(from[i], servers[0]) ? 0 : 1;
    if (!Same(from[i], servers[which]) ||
        !IsAnswer(answers[i], messages[i].msg_len, static_cast<uint16_t>(id + which))) {
      return EXDEV;
    }
  }
  return 0;
}

template <typename Address>
int AskConnected(int domain, const Address& server, uint16_t id) {
  const UniqueFd fd = UdpSocket(domain);
  const std::string query = Query(id, "connected");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) {
    return errno;
  }
  if (send(fd.get(), query.data(), query.size(), 0) != static_cast<ssize_t>(query.size())) {
    return errno;
  }
  char answer[512] = {};
  Address from = {};
  socklen_t length = sizeof from;
  const ssize_t got =
      recvfrom(fd.get(), answer, sizeof answer, 0, reinterpret_cast<sockaddr*>(&from), &length);
  return !IsAnswer(answer, got, id) ? EBADMSG : Same(from, server) ? 0 : EXDEV;
}

// One process waits for an answer before another has sent the socket's first query, as threads do.
int AskWhileAnotherWaits(uint16_t id) {
  const UniqueFd fd = UdpSocket();
  const sockaddr_in own = Loopback(0);
  const sockaddr_in server = V4(kServer, 53);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
    return errno;
  }
  const pid_t waiter = fork();
  if (waiter == 0) {
    char answer[512] = {};
    sockaddr_in from = {};
    socklen_t length = sizeof from;
    const ssize_t got =
        recvfrom(fd.get(), answer, sizeof answer, 0, reinterpret_cast<sockaddr*>(&from), &length);
    _exit(!IsAnswer(answer, got, id) ? EBADMSG : Same(from, server) ? 0 : EXDEV);
  }
  usleep(100'000);  // however long it takes: if it does not wait yet, the test is only weaker
  const std::string query = Query(id, "waiting");
  (void)sendto(fd.get(), query.data(), query.size(), 0, reinterpret_cast<const sockaddr*>(&server),
               sizeof server);
  int status = 0;
  waitpid(waiter, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

class DatagramTest : public testing::Test {
 protected:
  UdpProxy proxy_;
};

TEST_F(DatagramTest, EveryWayToAskIsAnsweredByWhomWasAsked) {
  Guarded guarded(Carrying(proxy_.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const std::array results = {
        AskUnconnected(AF_INET, V4(kServer, 53), 0, 1),
        AskUnconnected(AF_INET, V4(kServer, 53), SOCK_NONBLOCK, 2),
        AskUnconnected(AF_INET6, V6("::1", 53), 0, 3),
        AskUnconnected(AF_INET6, V6("::ffff:127.0.0.53", 53), SOCK_NONBLOCK, 4),
        AskWithMessages(5),
        AskManyAtOnce(6),
        AskConnected(AF_INET, V4(kServer, 53), 8),
        AskConnected(AF_INET6, V6("::1", 53), 9),
        AskWhileAnotherWaits(10),
    };
    for (const int result : results) {
      dprintf(output_fd, "%d ", result);
    }
    return 0;
  });
  EXPECT_EQ(output, "0 0 0 0 0 0 0 0 0 ");
  EXPECT_EQ(proxy_.datagrams(), 0);
}

TEST_F(DatagramTest, DatagramsGoThroughTheProxyAndComeBackFromTheirDestination) {
  Guarded guarded(Carrying(proxy_.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd fd = UdpSocket();
    dprintf(output_fd, "%s\n", Exchange(fd.get(), V4(0xc0000201, 9), "first").c_str());
    dprintf(output_fd, "%s\n", Exchange(fd.get(), V4(0xc0000202, 9), "second").c_str());
    const UniqueFd other = UdpSocket(AF_INET, SOCK_NONBLOCK);
    dprintf(output_fd, "%s\n", Exchange(other.get(), V4(0xc0000201, 9), "third").c_str());
    return 0;
  });
  EXPECT_EQ(output,
            "192.0.2.1:9 first from 192.0.2.1:9\n"
            "192.0.2.2:9 second from 192.0.2.2:9\n"
            "192.0.2.1:9 third from 192.0.2.1:9\n");
  EXPECT_EQ(proxy_.associations(), 2);
}

TEST_F(DatagramTest, ASyntheticAddressGoesToTheProxyAsItsName) {
  Guarded guarded(Carrying(proxy_.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    const UniqueFd fd = UdpSocket();
    const sockaddr_in server = V4(kServer, 53);
    const std::string query = Query(7, "quic");
    sendto(fd.get(), query.data(), query.size(), 0, reinterpret_cast<const sockaddr*>(&server),
           sizeof server);
    char answer[512] = {};
    const ssize_t got = recv(fd.get(), answer, sizeof answer, 0);
    if (!IsAnswer(answer, got, 7)) {
      return 1;
    }
    sockaddr_in told = V4(0, 443);
    memcpy(&told.sin_addr, answer + got - 4, 4);
    char ip[INET_ADDRSTRLEN] = {};
    inet_ntop(AF_INET, &told.sin_addr, ip, sizeof ip);
    const std::string expected = fmt::format("quic.test:443 hello from {}:443", ip);
    const std::string came = Exchange(fd.get(), told, "hello");
    dprintf(output_fd, "%s", came == expected ? "right" : came.c_str());
    return 0;
  });
  EXPECT_EQ(output, "right");
}

TEST(DatagramRefusalTest, AProxyWithoutDatagramsEndsInAnErrorAndAnEvent) {
  UdpProxy proxy({.refuse = true, .delay = 50, .hang_up_after = -1, .wildcard = true});
  Guarded guarded(Carrying(proxy.port()));
  const std::string output = OutputOf(guarded, [](int output_fd) {
    // Not known before the first one.
    const UniqueFd first = UdpSocket();
    const sockaddr_in to = V4(0xc0000201, 9);
    int error =
        connect(first.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
    for (int attempt = 0; attempt < 500 && error == 0; ++attempt) {
      error = send(first.get(), "x", 1, 0) == 1 ? 0 : errno;
      usleep(10'000);
    }
    const UniqueFd second = UdpSocket();
    const int known =
        sendto(second.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 1
            ? 0
            : errno;
    dprintf(output_fd, "%d %d", error, known);
    return 0;
  });
  EXPECT_EQ(output, fmt::format("{} {}", ECONNREFUSED, EACCES));
  const auto events = guarded.sink().events();
  ASSERT_GE(events.size(), 2U);
  for (const Event& event : events) {
    EXPECT_EQ(event.verdict, EventVerdict::kDeny);
    EXPECT_TRUE(event.leak);
    EXPECT_EQ(event.detail, "the proxy carries no datagrams");
    EXPECT_EQ(event.destination.ip.ToString(), "192.0.2.1");
  }
}

}  // namespace
}  // namespace oakum::agent
