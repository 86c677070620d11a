// Sockets and options that go around connect, sendto and sendmsg. Each way is first shown to be
// open without a guard, or what this kernel says where it has no such thing.
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/syscall.h>

#include <csignal>
#include <span>

#include "agent/caller/syscall_table.h"
#include "test/unit/agent/hostile_testing.h"

// Younger than the headers of Debian 12.
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace oakum::agent {
namespace {

struct Made {
  int family = 0;
  int type = 0;
  int protocol = 0;
  int error = 0;  // 0: there was a socket

  auto operator<=>(const Made&) const = default;
};

// All families and types, with the protocols that matter.
std::vector<Made> Everything() {
  constexpr int kFamilies = 64;  // AF_MAX is 46 in Linux 6.1
  constexpr int kTypes = 16;
  std::vector<Made> all;
  for (int family = 0; family < kFamilies; ++family) {
    std::vector<int> protocols = {0};
    if (family == AF_INET || family == AF_INET6) {
      protocols.insert(
          protocols.end(),
          {IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_DCCP, IPPROTO_ICMPV6, 115 /* L2TP */,
           IPPROTO_SCTP, IPPROTO_UDPLITE, IPPROTO_RAW, 256 /* SMC */, IPPROTO_MPTCP});
    } else if (family == AF_NETLINK) {
      for (int protocol = 1; protocol < 32; ++protocol) {
        protocols.push_back(protocol);
      }
    }
    for (int type = 0; type < kTypes; ++type) {
      for (const int protocol : protocols) {
        all.push_back({family, type, protocol, 0});
      }
    }
  }
  return all;
}

// What socket(2) says to all of that.
std::vector<Made> MakeAll(Guarded* guard) {
  // Made here: the child has been forked from a program with threads, and must not allocate much.
  const std::vector<Made> everything = Everything();
  const auto body = [&everything](int output_fd) {
    for (Made made : everything) {
      const int fd = socket(made.family, made.type, made.protocol);
      made.error = fd >= 0 ? 0 : errno;
      if (write(output_fd, &made, sizeof made) != sizeof made) {
        return 1;
      }
      close(fd);
    }
    return 0;
  };
  const std::string output = OutputOf(guard, body);
  std::vector<Made> all(output.size() / sizeof(Made));
  memcpy(all.data(), output.data(), all.size() * sizeof(Made));
  return all;
}

bool OfAnAllowedFamily(const Made& made) {
  return made.family == AF_NETLINK || made.family == AF_INET || made.family == AF_INET6;
}

bool IsAllowed(const Made& made) {
  switch (made.family) {
    case AF_UNIX:
      return true;
    case AF_NETLINK:
      return made.protocol == NETLINK_ROUTE;
    case AF_INET:
    case AF_INET6:
      return (made.type == SOCK_STREAM && (made.protocol == 0 || made.protocol == IPPROTO_TCP)) ||
             (made.type == SOCK_DGRAM &&
              (made.protocol == 0 || made.protocol == IPPROTO_UDP ||
               made.protocol == IPPROTO_ICMP || made.protocol == IPPROTO_ICMPV6));
    default:
      return false;
  }
}

TEST(HostileSocketTest, EveryFamilyTypeAndProtocol) {
  const std::vector<Made> bare = MakeAll(nullptr);
  const auto opens = [&](int family, int type, int protocol) {
    return std::ranges::find(bare, Made{family, type, protocol, 0}) != bare.end();
  };
  // What this kernel has at all, open without a guard.
  ASSERT_TRUE(opens(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE) ||
              opens(AF_INET, SOCK_STREAM, IPPROTO_MPTCP) || opens(AF_NETLINK, SOCK_RAW, 12));
  if (geteuid() == 0) {
    ASSERT_TRUE(opens(AF_INET, SOCK_RAW, IPPROTO_RAW));
    ASSERT_TRUE(opens(AF_PACKET, SOCK_RAW, 0));
  }
  Guarded guard(Policies("enforce", R"("outgoing": {"default": "allow"})"));
  const std::vector<Made> guarded = MakeAll(&guard);
  ASSERT_EQ(guarded.size(), bare.size());
  for (size_t i = 0; i < bare.size(); ++i) {
    const Made& made = guarded[i];
    if (IsAllowed(made)) {
      EXPECT_EQ(made, bare[i]) << made.family << " " << made.type << " " << made.protocol;
    } else if (bare[i].error == EINVAL ||
               (bare[i].error == ESOCKTNOSUPPORT && OfAnAllowedFamily(made))) {
      EXPECT_EQ(made.error, bare[i].error)
          << made.family << " " << made.type << " " << made.protocol << ": " << made.error;
    } else {
      EXPECT_TRUE(made.error == EPERM || made.error == EAFNOSUPPORT ||
                  made.error == EPROTONOSUPPORT || made.error == ESOCKTNOSUPPORT)
          << made.family << " " << made.type << " " << made.protocol << ": " << made.error;
    }
  }
}

TEST(HostileSocketTest, FastOpenConnectsByItsFlag) {
  const Server server(SOCK_STREAM);
  // 1: sendto, 2: sendmsg, 4: sendmmsg sent; minus an errno value when all three say the same.
  const auto body = [&](int) {
    sockaddr_in address = Loopback(server.port());
    iovec piece = {const_cast<char*>("x"), 1};
    mmsghdr messages = {};
    messages.msg_hdr.msg_name = &address;
    messages.msg_hdr.msg_namelen = sizeof address;
    messages.msg_hdr.msg_iov = &piece;
    messages.msg_hdr.msg_iovlen = 1;
    const auto fresh = [] { return socket(AF_INET, SOCK_STREAM, 0); };
    int sent = 0;
    int refused = 0;
    const auto count = [&](long result, int bit) {
      sent |= result == 1 ? bit : 0;
      refused += result == -1 && errno == EOPNOTSUPP ? 1 : 0;
    };
    count(sendto(fresh(), "x", 1, MSG_FASTOPEN, reinterpret_cast<sockaddr*>(&address),
                 sizeof address),
          1);
    count(sendmsg(fresh(), &messages.msg_hdr, MSG_FASTOPEN), 2);
    count(sendmmsg(fresh(), &messages, 1, MSG_FASTOPEN), 4);
    return refused == 3 ? 100 : sent;
  };
  ASSERT_EQ(RunUnguarded(body), 7);
  ASSERT_TRUE(server.Reached());
  while (server.Reached()) {
  }
  Guarded guarded(AllowOnly(server.port()));
  EXPECT_EQ(guarded.Run(body), 100);
  EXPECT_FALSE(server.Reached());
  EXPECT_TRUE(guarded.sink().events().empty()) << "decided in the kernel";
}

TEST(HostileSocketTest, IoUring) {
  const auto body = [](int) {
    alignas(8) char parameters[120] = {};  // struct io_uring_params
    const long ring = syscall(SYS_io_uring_setup, 8, parameters);
    const int setup = ring >= 0 ? 0 : errno;
    const int enter =
        syscall(SYS_io_uring_enter, ring >= 0 ? ring : 0, 0, 0, 0, nullptr, 0) == 0 ? 0 : errno;
    const int registered =
        syscall(SYS_io_uring_register, ring >= 0 ? ring : 0, 0, nullptr, 0) == 0 ? 0 : errno;
    return setup == ENOSYS && enter == ENOSYS && registered == ENOSYS ? 100
           : setup == 0 && enter == 0                                 ? 0
                                                                      : 1;
  };
  ASSERT_EQ(RunUnguarded(body), 0);
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), 100);
}

// The upper half of a register is nothing to the kernel, and must not be to the filter.
TEST(HostileSocketTest, UpperHalvesOfRegisters) {
  constexpr long kUpper = 0x100000000;
  const auto body = [](int) {
    const int packet = syscall(SYS_socket, kUpper + AF_PACKET, SOCK_RAW, 0) >= 0 ? 0 : errno;
    const int vsock = syscall(SYS_socket, kUpper + AF_VSOCK, SOCK_STREAM, 0) >= 0 ? 0 : errno;
    const int plain = syscall(SYS_socket, kUpper + AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : errno;
    const int udp = socket(AF_INET, SOCK_DGRAM, 0);
    const unsigned char route[12] = {131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 1, 0};
    const int option =
        syscall(SYS_setsockopt, udp, kUpper, kUpper + IP_OPTIONS, route, sizeof route) == 0 ? 0
                                                                                            : errno;
    const int device =
        syscall(SYS_setsockopt, udp, SOL_SOCKET, kUpper + SO_BINDTODEVICE, "lo", 3) == 0 ? 0
                                                                                         : errno;
    if (plain != 0) {
      return 1;
    }
    return packet == EPERM && vsock == EAFNOSUPPORT && option == EPERM && device == EPERM ? 100
           : packet == 0 && option == 0 && device == 0                                    ? 0
                                                                                          : 2;
  };
  if (geteuid() == 0) {
    ASSERT_EQ(RunUnguarded(body), 0);
  }
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), 100);
}

// With a call-out text request_key(2) makes a program of the host's look for the key.
TEST(HostileSocketTest, RequestKeyCallsNobody) {
  const auto body = [](int) {
    const auto request = [](const char* callout) {
      return syscall(SYS_request_key, "user", "oakum-nothing", callout, 0) >= 0 ? 0 : errno;
    };
    const int with = request("x");
    return request(nullptr) == ENOKEY ? with : 1;
  };
  // ENOENT: the kernel wanted to run /sbin/request-key, and this machine has none.
  const int bare = RunUnguarded(body);
  ASSERT_TRUE(bare == ENOKEY || bare == ENOENT) << bare;
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), ENOSYS);
}

#if defined(__x86_64__)
// The other numbers for x86-64 calls. A filter that does not name x32 ends the process; a kernel
// without it says ENOSYS, as the agent does where an engine's profile does name it.
TEST(HostileSocketTest, TheX32Bit) {
  const auto body = [](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in address = Loopback(9);
    return syscall(0x40000000 + SYS_connect, fd, &address, sizeof address) == 0 ? 0 : errno;
  };
  const int bare = RunUnguarded(body);
  ASSERT_TRUE(bare == 0 || bare == ENOSYS);
  Guarded guarded(AllowOnly(9));
  EXPECT_EQ(guarded.Run(body), -SIGSYS);
  EXPECT_EQ(LookUpCall(0xc000003e, 0x40000000 + SYS_connect).call, Call::kUnknown);
}
#endif

struct Option {
  const char* name;
  int domain;
  int level;
  int option;
  const void* value;
  socklen_t size;
  int bare;  // what this kernel says to an unprivileged program, or 0; minus 1: it depends
};

constexpr unsigned char kLsrr[12] = {131, 11, 4, 127, 0, 0, 2, 127, 0, 0, 1, 0};
const ip_mreq kGroup = {{htonl(0xe0000123)}, {htonl(INADDR_LOOPBACK)}};
const ip_mreq_source kSourceGroup = {
    {htonl(0xe8000123)}, {htonl(INADDR_LOOPBACK)}, {htonl(0x7f000005)}};
constexpr int kOne = 1;
constexpr char kPage[256] = {};
constexpr int kInterface = 0x02000000;  // interface 2, in network order

// Options that can make packets go elsewhere, or that send packets themselves.
const Option kRefused[] = {
    {"IP_OPTIONS", AF_INET, IPPROTO_IP, IP_OPTIONS, kLsrr, sizeof kLsrr, 0},
    {"IP_OPTIONS on IPv6", AF_INET6, IPPROTO_IP, IP_OPTIONS, kLsrr, sizeof kLsrr, 0},
    {"IP_ADD_MEMBERSHIP", AF_INET, IPPROTO_IP, IP_ADD_MEMBERSHIP, &kGroup, sizeof kGroup, 0},
    {"IP_ADD_SOURCE_MEMBERSHIP", AF_INET, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &kSourceGroup,
     sizeof kSourceGroup, -1},
    {"MCAST_JOIN_GROUP", AF_INET, IPPROTO_IP, MCAST_JOIN_GROUP, kPage, sizeof kPage, -1},
    {"MCAST_MSFILTER", AF_INET, IPPROTO_IP, MCAST_MSFILTER, kPage, sizeof kPage, -1},
    {"IP_MSFILTER", AF_INET, IPPROTO_IP, IP_MSFILTER, kPage, sizeof kPage, -1},
    {"IPV6_ADD_MEMBERSHIP", AF_INET6, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, kPage, 20, -1},
    {"IPV6_JOIN_ANYCAST", AF_INET6, IPPROTO_IPV6, IPV6_JOIN_ANYCAST, kPage, 20, -1},
    {"IPV6 MCAST_JOIN_GROUP", AF_INET6, IPPROTO_IPV6, MCAST_JOIN_GROUP, kPage, 136, -1},
    {"IP_UNICAST_IF", AF_INET, IPPROTO_IP, 50, &kInterface, sizeof kInterface, -1},
    {"IP_XFRM_POLICY", AF_INET, IPPROTO_IP, IP_XFRM_POLICY, kPage, sizeof kPage, -1},
    {"IPT_SO_SET_REPLACE", AF_INET, IPPROTO_IP, 64, kPage, sizeof kPage, -1},
    {"MRT_INIT", AF_INET, IPPROTO_IP, 200, &kOne, sizeof kOne, -1},
    {"IP_VS_SO_SET_ADD", AF_INET, IPPROTO_IP, 1154, kPage, sizeof kPage, -1},
    {"IPV6_RTHDR", AF_INET6, IPPROTO_IPV6, IPV6_RTHDR, kPage, 0, 0},
    {"IPV6_2292PKTOPTIONS", AF_INET6, IPPROTO_IPV6, 6, kPage, 0, 0},
    {"IPV6_HOPOPTS", AF_INET6, IPPROTO_IPV6, IPV6_HOPOPTS, kPage, 0, -1},
    {"IPV6_RTHDRDSTOPTS", AF_INET6, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, kPage, 0, -1},
    {"IPV6_DSTOPTS", AF_INET6, IPPROTO_IPV6, IPV6_DSTOPTS, kPage, 0, -1},
    // A flow label that carries control messages, a routing header among them.
    {"IPV6_FLOWLABEL_MGR", AF_INET6, IPPROTO_IPV6, 32, kPage, 64, -1},
    {"IPV6_PKTINFO", AF_INET6, IPPROTO_IPV6, IPV6_PKTINFO, kPage, 20, 0},
    {"IPV6_UNICAST_IF", AF_INET6, IPPROTO_IPV6, 76, &kInterface, sizeof kInterface, -1},
    {"IPV6_XFRM_POLICY", AF_INET6, IPPROTO_IPV6, IPV6_XFRM_POLICY, kPage, sizeof kPage, -1},
    {"IP6T_SO_SET_REPLACE", AF_INET6, IPPROTO_IPV6, 64, kPage, sizeof kPage, -1},
    {"SCTP_SOCKOPT_CONNECTX", AF_INET, IPPROTO_SCTP, 110, kPage, sizeof kPage, -1},
    {"SCTP_SOCKOPT_CONNECTX3", AF_INET, IPPROTO_SCTP, 111, kPage, sizeof kPage, -1},
    {"SO_BINDTODEVICE", AF_INET, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3, 0},
    {"SO_BINDTOIFINDEX", AF_INET, SOL_SOCKET, SO_BINDTOIFINDEX, &kOne, sizeof kOne, 0},
};

// Options of which somebody may think so, and that programs set.
const Option kHarmless[] = {
    {"IP_TTL", AF_INET, IPPROTO_IP, IP_TTL, &kOne, sizeof kOne, 0},
    {"IP_PKTINFO", AF_INET, IPPROTO_IP, IP_PKTINFO, &kOne, sizeof kOne, 0},
    {"IP_MULTICAST_IF", AF_INET, IPPROTO_IP, IP_MULTICAST_IF, &kGroup.imr_interface, 4, 0},
    {"IP_MULTICAST_TTL", AF_INET, IPPROTO_IP, IP_MULTICAST_TTL, &kOne, sizeof kOne, 0},
    {"IP_FREEBIND", AF_INET, IPPROTO_IP, IP_FREEBIND, &kOne, sizeof kOne, 0},
    {"IP_TRANSPARENT", AF_INET, IPPROTO_IP, IP_TRANSPARENT, &kOne, sizeof kOne, -1},
    {"IP_BIND_ADDRESS_NO_PORT", AF_INET, IPPROTO_IP, 24, &kOne, sizeof kOne, 0},
    {"IPV6_V6ONLY", AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, &kOne, sizeof kOne, 0},
    {"IPV6_RECVPKTINFO", AF_INET6, IPPROTO_IPV6, IPV6_RECVPKTINFO, &kOne, sizeof kOne, 0},
    {"IPV6_TCLASS", AF_INET6, IPPROTO_IPV6, IPV6_TCLASS, &kOne, sizeof kOne, 0},
    {"IPV6_AUTOFLOWLABEL", AF_INET6, IPPROTO_IPV6, 70, &kOne, sizeof kOne, 0},
    {"IPV6_FLOWLABEL_MGR", AF_INET6, IPPROTO_IPV6, 32, kPage, 32, -1},
    {"UDP_ENCAP", AF_INET, IPPROTO_UDP, 100, &kOne, sizeof kOne, -1},
    {"UDP_SEGMENT", AF_INET, IPPROTO_UDP, 103, &kOne, sizeof kOne, 0},
    {"SO_REUSEADDR", AF_INET, SOL_SOCKET, SO_REUSEADDR, &kOne, sizeof kOne, 0},
    {"SO_BROADCAST", AF_INET, SOL_SOCKET, SO_BROADCAST, &kOne, sizeof kOne, 0},
    {"SO_PRIORITY", AF_INET, SOL_SOCKET, SO_PRIORITY, &kOne, sizeof kOne, 0},
    {"SO_MARK", AF_INET, SOL_SOCKET, SO_MARK, &kOne, sizeof kOne, -1},
    {"SO_ZEROCOPY", AF_INET, SOL_SOCKET, SO_ZEROCOPY, &kOne, sizeof kOne, 0},
    {"SO_ATTACH_REUSEPORT_EBPF", AF_INET, SOL_SOCKET, 52, &kOne, sizeof kOne, -1},
};

// The errno value for each option, on a datagram socket of its own.
std::vector<int> SetAll(std::span<const Option> options, Guarded* guard) {
  const auto body = [options](int output_fd) {
    for (const Option& option : options) {
      const int fd = socket(option.domain, SOCK_DGRAM, 0);
      const int error =
          setsockopt(fd, option.level, option.option, option.value, option.size) == 0 ? 0 : errno;
      close(fd);
      if (write(output_fd, &error, sizeof error) != sizeof error) {
        return 1;
      }
    }
    return 0;
  };
  const std::string output = OutputOf(guard, body);
  std::vector<int> errors(output.size() / sizeof(int));
  memcpy(errors.data(), output.data(), errors.size() * sizeof(int));
  return errors;
}

TEST(HostileOptionTest, ThatRouteAreRefused) {
  const std::vector<int> bare = SetAll(kRefused, nullptr);
  Guarded guard(AllowOnly(9));
  const std::vector<int> guarded = SetAll(kRefused, &guard);
  ASSERT_EQ(bare.size(), std::size(kRefused));
  ASSERT_EQ(guarded.size(), std::size(kRefused));
  for (size_t i = 0; i < guarded.size(); ++i) {
    if (kRefused[i].bare >= 0) {
      EXPECT_EQ(bare[i], kRefused[i].bare) << kRefused[i].name << " is not open natively";
    }
    EXPECT_EQ(guarded[i], EPERM) << kRefused[i].name;
  }
  EXPECT_EQ(guard.sink().events().size(), std::size(kRefused));
}

TEST(HostileOptionTest, OthersAreNative) {
  const std::vector<int> bare = SetAll(kHarmless, nullptr);
  Guarded guard(AllowOnly(9));
  const std::vector<int> guarded = SetAll(kHarmless, &guard);
  ASSERT_EQ(guarded.size(), std::size(kHarmless));
  for (size_t i = 0; i < guarded.size(); ++i) {
    EXPECT_EQ(guarded[i], bare[i]) << kHarmless[i].name;
    if (kHarmless[i].bare >= 0) {
      EXPECT_EQ(bare[i], kHarmless[i].bare) << kHarmless[i].name;
    }
  }
  EXPECT_TRUE(guard.sink().events().empty());
}

// Where the policy denies nothing by default, loopback is no better than anything else.
TEST(HostileOptionTest, InterfacesArePermittedWhereTheDefaultIsToAllow) {
  const auto body = [](int) {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0 ? 0 : errno;
  };
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "allow", "deny": ["10.0.0.1"]})"));
  EXPECT_EQ(guarded.Run(body), 0);
}

// A message to an allowed address with one control message.
int SendControl(int domain, uint16_t port, int level, int type, std::span<const char> data) {
  const int fd = socket(domain, SOCK_DGRAM, 0);
  sockaddr_in to_v4 = Loopback(port);
  sockaddr_in6 to_v6 = {};
  to_v6.sin6_family = AF_INET6;
  to_v6.sin6_port = htons(port);
  to_v6.sin6_addr = in6addr_loopback;
  iovec piece = {const_cast<char*>("x"), 1};
  alignas(cmsghdr) std::array<char, 128> control{};
  msghdr message = {};
  message.msg_name = domain == AF_INET ? static_cast<void*>(&to_v4) : &to_v6;
  message.msg_namelen = domain == AF_INET ? sizeof to_v4 : sizeof to_v6;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(data.size());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(data.size());
  std::ranges::copy(data, CMSG_DATA(header));
  const int error = sendmsg(fd, &message, 0) == -1 ? errno : 0;
  close(fd);
  return error;
}

struct Control {
  const char* name;
  int domain;
  int level;
  int type;
  std::vector<char> data;
  int bare;     // minus 1: it depends on the kernel and on privileges
  int guarded;  // minus 1: as bare
};

std::vector<Control> Controls() {
  const std::vector<char> lsrr(std::begin(kLsrr), std::end(kLsrr));
  const std::vector<char> header(24, 0);
  const auto device = [](int index, size_t size, size_t offset) {
    std::vector<char> info(size);
    memcpy(info.data() + offset, &index, sizeof index);
    return info;
  };
  return {
      {"IP_RETOPTS", AF_INET, IPPROTO_IP, IP_RETOPTS, lsrr, 0, EACCES},
      {"IP_RETOPTS on IPv6", AF_INET6, IPPROTO_IP, IP_RETOPTS, lsrr, -1, EACCES},
      {"IPV6_RTHDR", AF_INET6, IPPROTO_IPV6, IPV6_RTHDR, header, -1, EACCES},
      {"IPV6_2292RTHDR", AF_INET6, IPPROTO_IPV6, 5, header, -1, EACCES},
      {"IPV6_HOPOPTS", AF_INET6, IPPROTO_IPV6, IPV6_HOPOPTS, header, -1, EACCES},
      {"IPV6_DSTOPTS", AF_INET6, IPPROTO_IPV6, IPV6_DSTOPTS, header, -1, EACCES},
      {"IPV6_RTHDRDSTOPTS", AF_INET6, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, header, -1, EACCES},
      {"IP_PKTINFO, interface 2", AF_INET, IPPROTO_IP, IP_PKTINFO, device(2, 12, 0), -1, EACCES},
      {"IPV6_PKTINFO, interface 2", AF_INET6, IPPROTO_IPV6, IPV6_PKTINFO, device(2, 20, 16), -1,
       EACCES},
      {"IP_PKTINFO, loopback", AF_INET, IPPROTO_IP, IP_PKTINFO, device(1, 12, 0), 0, -1},
      {"IPV6_PKTINFO, loopback", AF_INET6, IPPROTO_IPV6, IPV6_PKTINFO, device(1, 20, 16), 0, -1},
      {"IP_TTL", AF_INET, IPPROTO_IP, IP_TTL, device(5, 4, 0), 0, -1},
      {"IPV6_HOPLIMIT", AF_INET6, IPPROTO_IPV6, IPV6_HOPLIMIT, device(5, 4, 0), 0, -1},
      {"IPV6_FLOWINFO", AF_INET6, IPPROTO_IPV6, 11, device(0, 4, 0), 0, -1},
      {"SCM_RIGHTS", AF_INET, SOL_SOCKET, SCM_RIGHTS, device(0, 4, 0), 0, -1},
      {"SCM_CREDENTIALS", AF_INET, SOL_SOCKET, SCM_CREDENTIALS, device(0, 4, 0), 0, -1},
      {"nothing known", AF_INET, IPPROTO_IP, 99, device(0, 4, 0), EINVAL, -1},
      {"another level", AF_INET, IPPROTO_TCP, 99, device(0, 4, 0), 0, -1},
  };
}

TEST(HostileOptionTest, ControlMessagesThatRouteAreRefused) {
  const std::vector<Control> controls = Controls();
  const DatagramServer allowed("127.0.0.1");
  const auto body = [&](int output_fd) {
    for (const Control& control : controls) {
      const int error =
          SendControl(control.domain, allowed.port(), control.level, control.type, control.data);
      if (write(output_fd, &error, sizeof error) != sizeof error) {
        return 1;
      }
    }
    return 0;
  };
  const auto numbers = [](const std::string& text) {
    std::vector<int> out(text.size() / sizeof(int));
    memcpy(out.data(), text.data(), out.size() * sizeof(int));
    return out;
  };
  std::string bare_output;
  GuardedProcess process({}, body);
  process.Go();
  ASSERT_EQ(process.Wait(&bare_output), 0);
  std::string guarded_output;
  Guarded guard(AllowOnly(allowed.port(), R"(, "[::1]")"));
  ASSERT_EQ(guard.Run(body, &guarded_output), 0);
  const auto bare = numbers(bare_output);
  const auto guarded = numbers(guarded_output);
  ASSERT_EQ(bare.size(), controls.size());
  ASSERT_EQ(guarded.size(), controls.size());
  for (size_t i = 0; i < controls.size(); ++i) {
    if (controls[i].bare >= 0) {
      EXPECT_EQ(bare[i], controls[i].bare) << controls[i].name << " is not open natively";
    }
    EXPECT_EQ(guarded[i], controls[i].guarded >= 0 ? controls[i].guarded : bare[i])
        << controls[i].name;
  }
}

}  // namespace
}  // namespace oakum::agent
