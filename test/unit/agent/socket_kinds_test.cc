#include "agent/caller/socket_kinds.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "base/unique_fd.h"

namespace oakum::agent {
namespace {

UniqueFd MakeSocket(int domain, int type) {
  return UniqueFd(socket(domain, type | SOCK_CLOEXEC, 0));
}

// What the kernel says of a socket that nothing is remembered of.
SocketKind Fresh(int fd) {
  SocketKind kind;
  uint64_t cookie = 0;
  EXPECT_EQ(SocketKinds().Read(fd, kind, cookie), 0);
  return kind;
}

void ExpectSame(SocketKinds& kinds, int fd, const SocketKind& expected) {
  SocketKind kind;
  uint64_t cookie = 0;
  ASSERT_EQ(kinds.Read(fd, kind, cookie), 0);
  EXPECT_EQ(kind.domain, expected.domain);
  EXPECT_EQ(kind.type, expected.type);
  EXPECT_EQ(kind.protocol, expected.protocol);
  EXPECT_EQ(cookie, SocketCookie(fd));
  EXPECT_NE(cookie, 0U);
}

TEST(SocketKindsTest, TellsWhatASocketIs) {
  SocketKinds kinds;
  const UniqueFd tcp = MakeSocket(AF_INET, SOCK_STREAM);
  const UniqueFd udp = MakeSocket(AF_INET6, SOCK_DGRAM);
  const UniqueFd unix_socket = MakeSocket(AF_UNIX, SOCK_SEQPACKET);
  for (int round = 0; round < 2; ++round) {
    ExpectSame(kinds, tcp.get(), {AF_INET, SOCK_STREAM, IPPROTO_TCP});
    ExpectSame(kinds, udp.get(), {AF_INET6, SOCK_DGRAM, IPPROTO_UDP});
    ExpectSame(kinds, unix_socket.get(), {AF_UNIX, SOCK_SEQPACKET, 0});
  }
}

TEST(SocketKindsTest, ManySocketsTakeEachOthersPlaces) {
  SocketKinds kinds;
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 100; ++i) {
    sockets.push_back(
        MakeSocket(i % 2 == 0 ? AF_INET : AF_UNIX, i % 3 == 0 ? SOCK_STREAM : SOCK_DGRAM));
  }
  for (int round = 0; round < 3; ++round) {
    for (const UniqueFd& fd : sockets) {
      ExpectSame(kinds, fd.get(), Fresh(fd.get()));
    }
  }
}

TEST(SocketKindsTest, WhatIsKnownOfOnesInterfaceIsKnownOfNoOther) {
  SocketKinds kinds;
  const UniqueFd fd = MakeSocket(AF_INET, SOCK_DGRAM);
  const uint64_t cookie = SocketCookie(fd.get());
  kinds.NoteUnbound(cookie, 1);
  EXPECT_FALSE(kinds.IsUnbound(cookie, 1)) << "before it is remembered at all";
  ExpectSame(kinds, fd.get(), {AF_INET, SOCK_DGRAM, IPPROTO_UDP});
  EXPECT_FALSE(kinds.IsUnbound(cookie, 1));
  kinds.NoteUnbound(cookie, 1);
  EXPECT_TRUE(kinds.IsUnbound(cookie, 1));
  ExpectSame(kinds, fd.get(), {AF_INET, SOCK_DGRAM, IPPROTO_UDP});
  EXPECT_TRUE(kinds.IsUnbound(cookie, 1));
  EXPECT_FALSE(kinds.IsUnbound(cookie, 2)) << "somebody may have bound it since";
  // Until others have taken its place.
  std::vector<UniqueFd> others;
  while (others.size() < 64) {
    others.push_back(MakeSocket(AF_INET, SOCK_DGRAM));
    ExpectSame(kinds, others.back().get(), {AF_INET, SOCK_DGRAM, IPPROTO_UDP});
    EXPECT_FALSE(kinds.IsUnbound(SocketCookie(others.back().get()), 1));
  }
  EXPECT_FALSE(kinds.IsUnbound(cookie, 1));
}

TEST(SocketKindsTest, AnotherSocketUnderTheSameNumberIsAnother) {
  SocketKinds kinds;
  const UniqueFd fd = MakeSocket(AF_UNIX, SOCK_STREAM);
  ExpectSame(kinds, fd.get(), {AF_UNIX, SOCK_STREAM, 0});
  const UniqueFd other = MakeSocket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(dup2(other.get(), fd.get()), fd.get());
  ExpectSame(kinds, fd.get(), {AF_INET, SOCK_DGRAM, IPPROTO_UDP});
}

// ipv6(7): the only way in which a socket's domain changes.
TEST(SocketKindsTest, NoticesThatAnIpv6SocketHasBecomeAnIpv4One) {
  SocketKinds kinds;
  const UniqueFd fd = MakeSocket(AF_INET6, SOCK_DGRAM);
  ExpectSame(kinds, fd.get(), {AF_INET6, SOCK_DGRAM, IPPROTO_UDP});
  sockaddr_in6 mapped = {};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = htons(9);
  ASSERT_EQ(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr), 1);
  ASSERT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&mapped), sizeof mapped), 0);
  const int domain = AF_INET;
  ASSERT_EQ(setsockopt(fd.get(), IPPROTO_IPV6, IPV6_ADDRFORM, &domain, sizeof domain), 0);
  ExpectSame(kinds, fd.get(), {AF_INET, SOCK_DGRAM, IPPROTO_UDP});
  ExpectSame(kinds, fd.get(), {AF_INET, SOCK_DGRAM, IPPROTO_UDP});
}

TEST(SocketKindsTest, WhatIsNoSocketHasNoKind) {
  SocketKinds kinds;
  SocketKind kind;
  uint64_t cookie = 0;
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  EXPECT_EQ(kinds.Read(read_end.get(), kind, cookie), ENOTSOCK);
  const UniqueFd path(open("/", O_PATH | O_CLOEXEC));
  EXPECT_EQ(kinds.Read(path.get(), kind, cookie), EBADF);
  EXPECT_EQ(kinds.Read(-1, kind, cookie), EBADF);
  EXPECT_EQ(SocketCookie(-1), 0U);
}

}  // namespace
}  // namespace oakum::agent
