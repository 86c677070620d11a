// New user, network and mount namespaces, and those of others.
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <csignal>

#include "support.h"

namespace oakum::escapes {

namespace {

bool Write(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY);
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return written;
}

// Enters new namespaces as their root.
bool Unshare(int flags) {
  const std::string user = "0 " + std::to_string(geteuid()) + " 1";
  const std::string group = "0 " + std::to_string(getegid()) + " 1";
  return unshare(CLONE_NEWUSER | flags) == 0 && Write("/proc/self/setgroups", "deny") &&
         Write("/proc/self/uid_map", user) && Write("/proc/self/gid_map", group);
}

int BindPort(int fd, uint16_t port) {
  const sockaddr_in address = At("0.0.0.0", port);
  return ErrorOf(bind(fd, Generic(address), sizeof address));
}

int ConnectUnix(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return ErrorOf(connect(Socket(AF_UNIX, SOCK_STREAM, 0), reinterpret_cast<sockaddr*>(&address),
                         sizeof address));
}

int ListenUnix(const char* path) {
  const int fd = Socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  const int error = ErrorOf(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address));
  return error != 0 ? error : ErrorOf(listen(fd, 5));
}

// A request of rtnetlink(7) that makes or moves link "v0" (RTM_NEWLINK) to the namespace of process
// `owner` (0: where we are). On a socket that has no peer but the kernel, send(2) is enough.
int NewLink(pid_t owner) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
    char room[256];
  } request = {};
  size_t used = sizeof request.header + sizeof request.link;
  const auto add = [&](uint16_t type, const void* data, size_t size) {
    auto* attribute = reinterpret_cast<rtattr*>(reinterpret_cast<char*>(&request) + used);
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    memcpy(RTA_DATA(attribute), data, size);
    used += RTA_ALIGN(attribute->rta_len);
    return attribute;
  };
  request.header.nlmsg_type = RTM_NEWLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  add(IFLA_IFNAME, "v0", 3);
  if (owner != 0) {
    add(IFLA_NET_NS_PID, &owner, sizeof owner);
  } else {
    request.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
    rtattr* info = add(IFLA_LINKINFO, "", 0);
    add(IFLA_INFO_KIND, "veth", 4);
    info->rta_len = static_cast<uint16_t>(reinterpret_cast<char*>(&request) + used -
                                          reinterpret_cast<char*>(info));
  }
  request.header.nlmsg_len = static_cast<uint32_t>(used);
  const int fd = Socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char room[512];
  } answer = {};
  if (send(fd, &request, used, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0) {
    return errno;
  }
  close(fd);
  return -answer.error.error;
}

// Gives "v0" an address and makes it the way to everywhere.
int RouteThroughLink() {
  const int fd = Socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request = {};
  strcpy(request.ifr_name, "v0");
  const sockaddr_in own = At("10.99.0.1", 0);
  memcpy(&request.ifr_addr, &own, sizeof own);
  if (ioctl(fd, SIOCSIFADDR, &request) != 0) {
    return errno;
  }
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(fd, SIOCSIFFLAGS, &request) != 0) {
    return errno;
  }
  rtentry route = {};
  const sockaddr_in any = At("0.0.0.0", 0);
  memcpy(&route.rt_dst, &any, sizeof any);
  memcpy(&route.rt_genmask, &any, sizeof any);
  char name[] = "v0";
  route.rt_dev = name;
  route.rt_flags = RTF_UP;
  return ErrorOf(ioctl(fd, SIOCADDRT, &route));
}

struct CloneJob {
  int fd;
  const char* ip;
};

}  // namespace

int Namespaces(char** words) {
  const char* bad = words[0];
  const char* good = words[1];
  const int udp = Socket(AF_INET, SOCK_DGRAM, 0);
  for (const char* ip : {bad, good}) {
    const std::string who = ip == bad ? " bad" : " good";
    Print("old socket" + who,
          InChild([=] { return Unshare(CLONE_NEWNET) ? SendOn(udp, ip) : 255; }));
    Print("new socket" + who, InChild([=] {
            return Unshare(CLONE_NEWNET) ? SendOn(Socket(AF_INET, SOCK_DGRAM, 0), ip) : 255;
          }));
    Print("cloned" + who, InChild([=] {
            static char stack[64 * 1024];
            CloneJob job{udp, ip};
            const pid_t child = clone(
                [](void* argument) {
                  const auto* given = static_cast<CloneJob*>(argument);
                  return SendOn(given->fd, given->ip);
                },
                stack + sizeof stack, CLONE_NEWUSER | CLONE_NEWNET | SIGCHLD, &job);
            int status = 0;
            return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 255;
          }));
  }
  Print("veth", InChild([=] {
          const pid_t parent = getppid();
          if (!Unshare(CLONE_NEWNET)) {
            return 255;
          }
          if (const int error = NewLink(0); error != 0) {
            return error;
          }
          const int error = RouteThroughLink();
          const int moved = NewLink(parent);
          // It goes nowhere: into the other end, which is here as well.
          const int sent = SendOn(Socket(AF_INET, SOCK_DGRAM, 0), good);
          return error != 0 ? error : moved == 0 ? 250 : sent;
        }));
  const auto tcp = [] { return Socket(AF_INET, SOCK_STREAM, 0); };
  Print("port 80 on an old socket, own network", InChild([=] {
          const int fd = tcp();
          return Unshare(CLONE_NEWNET) ? BindPort(fd, 80) : 255;
        }));
  Print("port 80 on an old socket, own user namespace",
        InChild([=] { return Unshare(0) ? BindPort(tcp(), 80) : 255; }));
  Print("port 80 on a new socket, own network",
        InChild([=] { return Unshare(CLONE_NEWNET) ? BindPort(tcp(), 80) : 255; }));
  Print("unix in an own mount namespace", InChild([=] {
          if (!Unshare(CLONE_NEWNS) || mount("none", "/tmp", "tmpfs", 0, "") != 0) {
            return 255;
          }
          if (const int error = ListenUnix("/tmp/inner"); error != 0) {
            return error;
          }
          if (const int error = ConnectUnix("/tmp/inner"); error != 0) {
            return error;
          }
          if (chroot("/tmp") != 0 || chdir("/") != 0) {
            return 254;
          }
          const int error = ConnectUnix("/inner");
          return error != 0 ? error : ListenUnix("second");
        }));
  Print("seen outside", access("/tmp/inner", F_OK) == 0 ? "yes" : "no");
  return 0;
}

// enter PID IP: the network namespace of another container.
int Enter(char** words) {
  const int fd = open((std::string("/proc/") + words[0] + "/ns/net").c_str(), O_RDONLY);
  Print("open", ErrorOf(fd));
  Print("setns", ErrorOf(setns(fd, CLONE_NEWNET)));
  Print("connect", Connect(words[1]));
  return 0;
}

}  // namespace oakum::escapes
