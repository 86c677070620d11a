// Addresses that mean something else than they seem to. Each way is first shown to be open without
// a guard.
#include <netinet/tcp.h>

#include <csignal>

#include "test/unit/agent/hostile_testing.h"

// Younger than the headers of Debian 12.
#ifndef TCP_FASTOPEN_NO_COOKIE
#define TCP_FASTOPEN_NO_COOKIE 34
#endif

namespace oakum::agent {
namespace {

sockaddr_in At(const char* address, uint16_t port) {
  sockaddr_in out = Loopback(port);
  EXPECT_EQ(inet_pton(AF_INET, address, &out.sin_addr), 1);
  return out;
}

sockaddr_in6 At6(const char* address, uint16_t port) {
  sockaddr_in6 out = {};
  out.sin6_family = AF_INET6;
  out.sin6_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET6, address, &out.sin6_addr), 1);
  return out;
}

template <typename Address>
int SendTo(int fd, const Address& address) {
  return sendto(fd, "x", 1, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 1
             ? 0
             : errno;
}

template <typename Address>
int Connect(int fd, const Address& address) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

template <typename Address>
int Bind(int fd, const Address& address) {
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

int Datagram(int domain) { return socket(domain, SOCK_DGRAM, 0); }
int Stream(int domain) { return socket(domain, SOCK_STREAM, 0); }

// The kernel reads AF_UNSPEC as the family of an IPv4 socket; on an IPv6 one it means the connected
// peer.
TEST(HostileAddressTest, UnspecifiedFamilyInASend) {
  const DatagramServer allowed("127.0.0.1");
  const DatagramServer denied("127.0.0.2", allowed.port());
  const auto body = [&](bool by_message) {
    return [&, by_message](int) {
      sockaddr_in address = At("127.0.0.2", denied.port());
      address.sin_family = AF_UNSPEC;
      const int fd = Datagram(AF_INET);
      if (!by_message) {
        return SendTo(fd, address);
      }
      iovec piece = {const_cast<char*>("x"), 1};
      msghdr message = {};
      message.msg_name = &address;
      message.msg_namelen = sizeof address;
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      return sendmsg(fd, &message, 0) == 1 ? 0 : errno;
    };
  };
  for (const bool by_message : {false, true}) {
    ASSERT_EQ(RunUnguarded(body(by_message)), 0);
    ASSERT_EQ(denied.Drain(), 1);
    Guarded guarded(AllowOnly(allowed.port()));
    EXPECT_EQ(guarded.Run(body(by_message)), EACCES);
    EXPECT_EQ(denied.Drain(), 0);
  }
  // What is allowed works as natively.
  const auto honest = [&](int) {
    sockaddr_in address = At("127.0.0.1", allowed.port());
    address.sin_family = AF_UNSPEC;
    const int receiver = Datagram(AF_INET6);
    const int sender = Datagram(AF_INET6);
    sockaddr_in6 own = At6("::1", 0);
    socklen_t length = sizeof own;
    if (Bind(receiver, own) != 0 ||
        getsockname(receiver, reinterpret_cast<sockaddr*>(&own), &length) != 0 ||
        Connect(sender, own) != 0) {
      return 1;
    }
    sockaddr_in6 peer = At6("::2", 1);
    peer.sin6_family = AF_UNSPEC;
    char byte = 0;
    const bool arrived = SendTo(sender, peer) == 0 && recv(receiver, &byte, 1, 0) == 1;
    return SendTo(Datagram(AF_INET), address) == 0 && arrived ? SendTo(Datagram(AF_INET6), peer)
                                                              : 2;
  };
  ASSERT_EQ(RunUnguarded(honest), EDESTADDRREQ);
  ASSERT_EQ(allowed.Drain(), 1);
  Guarded guarded(AllowOnly(allowed.port(), R"(, "[::1]")"));
  EXPECT_EQ(guarded.Run(honest), EDESTADDRREQ);
  EXPECT_EQ(allowed.Drain(), 1);
}

// connect(2) with AF_UNSPEC takes a socket back, and another address comes after an allowed one.
TEST(HostileAddressTest, DisconnectAndReconnect) {
  const Server allowed(SOCK_STREAM);
  const Server denied(SOCK_STREAM);
  const DatagramServer allowed_datagrams("127.0.0.1", allowed.port());
  const DatagramServer denied_datagrams("127.0.0.1", denied.port());
  const auto body = [&](int) {
    sockaddr unspecified = {};
    unspecified.sa_family = AF_UNSPEC;
    const int tcp = Stream(AF_INET);
    const int udp = Datagram(AF_INET);
    int result = 0;
    for (const int fd : {tcp, udp}) {
      const bool first = Connect(fd, Loopback(allowed.port())) == 0;
      const bool back = Connect(fd, unspecified) == 0;
      const int second = Connect(fd, Loopback(denied.port()));
      result = result * 4 + (first && back ? (second == 0 ? 1 : second == EACCES ? 2 : 3) : 0);
      (void)send(fd, "x", 1, MSG_NOSIGNAL);
    }
    return result;
  };
  ASSERT_EQ(RunUnguarded(body), 1 * 4 + 1);
  ASSERT_TRUE(denied.Reached());
  ASSERT_EQ(denied_datagrams.Drain(), 1);
  ASSERT_TRUE(allowed.Reached());
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body), 2 * 4 + 2);
  EXPECT_TRUE(allowed.Reached());
  EXPECT_FALSE(denied.Reached());
  EXPECT_EQ(denied_datagrams.Drain(), 0);
}

TEST(HostileAddressTest, Ipv4OnAnIpv6Socket) {
  const DatagramServer allowed("127.0.0.1");
  const DatagramServer denied("127.0.0.2", allowed.port());
  const Server denied_stream(SOCK_STREAM);
  const auto body = [&](int) {
    const int results[] = {
        SendTo(Datagram(AF_INET6), At("127.0.0.2", denied.port())),
        SendTo(Datagram(AF_INET6), At6("::ffff:127.0.0.2", denied.port())),
        Connect(Stream(AF_INET6), At6("::ffff:127.0.0.1", denied_stream.port())),
    };
    int refused = 0;
    for (const int error : results) {
      refused = refused * 4 + (error == 0 ? 0 : error == EACCES ? 1 : 2);
    }
    return refused;
  };
  ASSERT_EQ(RunUnguarded(body), 0);
  ASSERT_EQ(denied.Drain(), 2);
  ASSERT_TRUE(denied_stream.Reached());
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body), 0b010101);
  EXPECT_EQ(denied.Drain(), 0);
  EXPECT_FALSE(denied_stream.Reached());
}

// 0.0.0.0 is the socket's own address, which need not be 127.0.0.1.
TEST(HostileAddressTest, WildcardFromABoundSocket) {
  const DatagramServer allowed("127.0.0.1");
  const DatagramServer denied("127.0.0.2", allowed.port());
  const auto body = [&](int) {
    const int bound = Datagram(AF_INET);
    const int mapped = Datagram(AF_INET6);
    const int connected = Datagram(AF_INET);
    const bool ready = Bind(bound, At("127.0.0.2", 0)) == 0 &&
                       Bind(mapped, At6("::ffff:127.0.0.2", 0)) == 0 &&
                       Bind(connected, At("127.0.0.2", 0)) == 0;
    const int first = SendTo(bound, At("0.0.0.0", denied.port()));
    const int second = SendTo(mapped, At6("::ffff:0.0.0.0", denied.port()));
    const int third = Connect(connected, At("0.0.0.0", denied.port()));
    (void)send(connected, "x", 1, 0);
    // The source can also come with the message (ip(7), IP_PKTINFO).
    sockaddr_in address = At("0.0.0.0", denied.port());
    iovec piece = {const_cast<char*>("x"), 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(in_pktinfo))] = {};
    msghdr message = {};
    message.msg_name = &address;
    message.msg_namelen = sizeof address;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
    in_pktinfo info = {};
    info.ipi_spec_dst.s_addr = htonl(0x7f000002);
    memcpy(CMSG_DATA(header), &info, sizeof info);
    (void)sendmsg(Datagram(AF_INET), &message, 0);
    return ready && first == second && second == third ? first : 1;
  };
  ASSERT_EQ(RunUnguarded(body), 0);
  ASSERT_EQ(denied.Drain(), 4);
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body), EACCES);
  EXPECT_EQ(denied.Drain(), 0);
  allowed.Drain();
  // Unbound it is 127.0.0.1, as natively.
  const auto honest = [&](int) {
    const int fd = Datagram(AF_INET);
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    const int error = Connect(fd, At("0.0.0.0", allowed.port()));
    getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length);
    return error != 0 ? error
                      : SendTo(Datagram(AF_INET), At("0.0.0.0", allowed.port())) +
                            (peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK) ? 0 : 1);
  };
  ASSERT_EQ(RunUnguarded(honest), 0);
  ASSERT_EQ(allowed.Drain(), 1);
  EXPECT_EQ(guarded.Run(honest), 0);
  EXPECT_EQ(allowed.Drain(), 1);
}

// A socket that connects to the port it is bound to meets itself (a simultaneous open, RFC 9293
// section 3.5), and then sends without any guarded call.
TEST(HostileAddressTest, ConnectFromABoundPort) {
  const auto body = [](int) {
    const int fd = Stream(AF_INET);
    sockaddr_in own = Loopback(0);
    socklen_t length = sizeof own;
    if (Bind(fd, own) != 0 || getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) != 0) {
      return 1;
    }
    const int error = Connect(fd, own);
    char byte = 0;
    return error != 0 ? error : send(fd, "x", 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1 ? 0 : 2;
  };
  ASSERT_EQ(RunUnguarded(body), 0);
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), EACCES);
  Guarded open(Policies("enforce", R"("outgoing": {"default": "allow"})"));
  EXPECT_EQ(open.Run(body), 0);
}

// TCP_FASTOPEN_CONNECT puts the connection off until the first byte is sent, which can be done
// without a guarded call, or with another address in it.
TEST(HostileAddressTest, FastOpenConnect) {
  const Server allowed(SOCK_STREAM);
  const Server denied(SOCK_STREAM);
  const auto body = [&](uint16_t port) {
    return [&, port](int) {
      signal(SIGPIPE, SIG_IGN);
      const int fd = Stream(AF_INET);
      const int one = 1;
      if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one) != 0 ||
          setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &one, sizeof one) != 0) {
        return 1;
      }
      const int error = Connect(fd, Loopback(port));
      tcp_info info = {};
      socklen_t length = sizeof info;
      getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
      // With an address the send is decided by the agent: a stream's does not lead there.
      (void)SendTo(fd, Loopback(denied.port()));
      const bool sent = send(fd, "x", 1, MSG_NOSIGNAL) == 1;
      return error != 0 ? error : sent && info.tcpi_state == TCP_SYN_SENT ? 0 : 2;
    };
  };
  ASSERT_EQ(RunUnguarded(body(denied.port())), 0);
  ASSERT_TRUE(denied.Reached());
  ASSERT_EQ(RunUnguarded(body(allowed.port())), 0);
  ASSERT_TRUE(allowed.Reached());
  ASSERT_FALSE(denied.Reached());
  Guarded guarded(AllowOnly(allowed.port()));
  EXPECT_EQ(guarded.Run(body(denied.port())), EACCES);
  EXPECT_FALSE(denied.Reached());
  EXPECT_EQ(guarded.Run(body(allowed.port())), 0);
  EXPECT_TRUE(allowed.Reached());
  EXPECT_FALSE(denied.Reached());
}

}  // namespace
}  // namespace oakum::agent
