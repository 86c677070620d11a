// Ways to put an address on the wire that is not the one which connect or sendto names.
#include "far.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

// A destination, IPv4 or IPv6 by its text; "fe80::1%eth0" has a scope.
struct Target {
  sockaddr_storage storage = {};
  socklen_t length = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
};

Target Parse(std::string text, int port) {
  Target out;
  sockaddr_in in = {};
  if (inet_pton(AF_INET, text.c_str(), &in.sin_addr) == 1) {
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<uint16_t>(port));
    memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
    return out;
  }
  sockaddr_in6 in6 = {};
  if (const size_t percent = text.find('%'); percent != std::string::npos) {
    in6.sin6_scope_id = if_nametoindex(text.c_str() + percent + 1);
    text.resize(percent);
  }
  if (inet_pton(AF_INET6, text.c_str(), &in6.sin6_addr) == 1) {
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(static_cast<uint16_t>(port));
    memcpy(&out.storage, &in6, sizeof in6);
    out.length = sizeof in6;
  }
  return out;
}

struct Step {
  Target target;
  int port = 0;
  std::string more;
};

int Error(ssize_t result) { return result < 0 ? errno : 0; }

int Datagram(const Step& step) { return socket(step.target.family(), SOCK_DGRAM, 0); }

int SendTo(int fd, const Target& target) {
  return Error(sendto(fd, "x", 1, 0, target.get(), target.length));
}

int SetOption(int fd, int level, int name, const void* value, size_t size) {
  return Error(setsockopt(fd, level, name, value, static_cast<socklen_t>(size)));
}

int SendControl(int fd, const Target& target, int level, int type, const void* data, size_t size) {
  std::vector<char> control(CMSG_SPACE(size));
  Target copy = target;
  iovec piece = {const_cast<char*>("x"), 1};
  msghdr message = {};
  message.msg_name = &copy.storage;
  message.msg_namelen = copy.length;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(header), data, size);
  return Error(sendmsg(fd, &message, 0));
}

// LSRR (RFC 791 section 3.1) whose first hop is `first`: it is what the wire sees.
std::array<unsigned char, 12> SourceRoute(const std::string& first) {
  std::array<unsigned char, 12> route = {131, 11, 4};
  inet_pton(AF_INET, first.c_str(), route.data() + 3);
  inet_pton(AF_INET, "10.77.0.1", route.data() + 7);
  return route;
}

// A segment routing header (RFC 8754) whose first segment is `first`.
std::array<unsigned char, 40> SegmentRoute(const std::string& first) {
  std::array<unsigned char, 40> route = {0, 4, 4, 1, 1, 0, 0, 0};
  inet_pton(AF_INET6, "fd77::1", route.data() + 8);
  inet_pton(AF_INET6, first.c_str(), route.data() + 24);
  return route;
}

int Plain(const Step& step) {
  const int fd = Datagram(step);
  const int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
  return SendTo(fd, step.target);
}

int Mapped(const Step& step) { return SendTo(socket(AF_INET6, SOCK_DGRAM, 0), step.target); }

int Device(const Step& step) {
  const int fd = Datagram(step);
  const int error =
      SetOption(fd, SOL_SOCKET, SO_BINDTODEVICE, step.more.c_str(), step.more.size() + 1);
  return error != 0 ? error : SendTo(fd, step.target);
}

int DeviceIndex(const Step& step) {
  const int fd = Datagram(step);
  const unsigned index = if_nametoindex(step.more.c_str());
  const int error = SetOption(fd, SOL_SOCKET, 62, &index, sizeof index);  // SO_BINDTOIFINDEX
  return error != 0 ? error : SendTo(fd, step.target);
}

// Allowed and connected first, then a plain send.
int DeviceConnected(const Step& step) {
  const int fd = Datagram(step);
  const Target own = Parse("10.77.0.2", 0);
  if (bind(fd, own.get(), own.length) != 0 || connect(fd, step.target.get(), step.target.length)) {
    return errno;
  }
  const int error =
      SetOption(fd, SOL_SOCKET, SO_BINDTODEVICE, step.more.c_str(), step.more.size() + 1);
  return error != 0 ? error : Error(send(fd, "x", 1, 0));
}

int UnicastInterface(const Step& step) {
  const int fd = Datagram(step);
  const unsigned index = htonl(if_nametoindex(step.more.c_str()));
  const bool v4 = step.target.family() == AF_INET;
  const int error =
      SetOption(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? 50 : 76, &index, sizeof index);
  return error != 0 ? error : SendTo(fd, step.target);
}

int PacketInfo(const Step& step) {
  const int index = static_cast<int>(if_nametoindex(step.more.c_str()));
  if (step.target.family() == AF_INET) {
    const std::array<int, 3> info = {index, 0, 0};
    return SendControl(Datagram(step), step.target, IPPROTO_IP, IP_PKTINFO, info.data(),
                       sizeof info);
  }
  const std::array<int, 5> info = {0, 0, 0, 0, index};
  return SendControl(Datagram(step), step.target, IPPROTO_IPV6, IPV6_PKTINFO, info.data(),
                     sizeof info);
}

// Binding to a link-local address binds to its interface as well.
int BindScope(const Step& step) {
  const int fd = Datagram(step);
  const Target own = Parse(step.more, 0);
  if (bind(fd, own.get(), own.length) != 0) {
    return errno;
  }
  return SendTo(fd, step.target);
}

int RouteOption(const Step& step) {
  const int fd = Datagram(step);
  const auto route = SourceRoute(step.more);
  const int error = SetOption(fd, IPPROTO_IP, IP_OPTIONS, route.data(), route.size());
  return error != 0 ? error : SendTo(fd, step.target);
}

int RouteConnected(const Step& step) {
  const int fd = Datagram(step);
  if (connect(fd, step.target.get(), step.target.length) != 0) {
    return errno;
  }
  const auto route = SourceRoute(step.more);
  const int error = SetOption(fd, IPPROTO_IP, IP_OPTIONS, route.data(), route.size());
  return error != 0 ? error : Error(send(fd, "x", 1, 0));
}

int RouteControl(const Step& step) {
  const auto route = SourceRoute(step.more);
  return SendControl(Datagram(step), step.target, IPPROTO_IP, IP_RETOPTS, route.data(),
                     route.size());
}

int RouteSegments(const Step& step) {
  const int fd = Datagram(step);
  const auto route = SegmentRoute(step.more);
  const int error = SetOption(fd, IPPROTO_IPV6, IPV6_RTHDR, route.data(), route.size());
  return error != 0 ? error : SendTo(fd, step.target);
}

int Join(const Step& step) {
  const int fd = Datagram(step);
  ip_mreqn group = {};
  memcpy(&group.imr_multiaddr, &reinterpret_cast<const sockaddr_in*>(step.target.get())->sin_addr,
         sizeof group.imr_multiaddr);
  group.imr_ifindex = static_cast<int>(if_nametoindex(step.more.c_str()));
  return SetOption(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group);
}

int Ping(const Step& step) {
  const int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  const std::array<unsigned char, 8> echo = {8};
  return Error(sendto(fd, echo.data(), echo.size(), 0, step.target.get(), step.target.length));
}

}  // namespace

int SendFar(int count, char** steps) {
  const std::map<std::string, int (*)(const Step&)> known = {
      {"plain", Plain},
      {"mapped", Mapped},
      {"device", Device},
      {"device-index", DeviceIndex},
      {"device-connected", DeviceConnected},
      {"unicast-interface", UnicastInterface},
      {"packet-info", PacketInfo},
      {"bind-scope", BindScope},
      {"route-option", RouteOption},
      {"route-connected", RouteConnected},
      {"route-control", RouteControl},
      {"route-segments", RouteSegments},
      {"join", Join},
      {"ping", Ping},
  };
  for (int i = 0; i < count; ++i) {
    std::array<char, 64> name = {};
    std::array<char, 64> address = {};
    std::array<char, 64> more = {};
    Step step;
    if (sscanf(steps[i], "%63s %63s %d %63s", name.data(), address.data(), &step.port,
               more.data()) < 3 ||
        !known.contains(name.data())) {
      fprintf(stderr, "hostile: bad step \"%s\"\n", steps[i]);
      return 99;
    }
    step.target = Parse(address.data(), step.port);
    step.more = more.data();
    printf("{\"step\": %d, \"errno\": %d}\n", i, known.at(name.data())(step));
  }
  return 0;
}
