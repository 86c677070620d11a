// Programs that try to get past a guard, one for each argument. Plain code without sanitizers:
// their races are meant. Loopback only.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

#include "bad_input.h"
#include "far.h"

namespace {

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

const sockaddr* Generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

int ConnectError(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = Loopback(port);
  const int error = connect(fd, Generic(address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return error;
}

// What the other thread of Rewrite keeps changing.
enum class Target : uint8_t { kSockaddr, kMsghdr, kMmsghdr, kIovec };

// Sends datagrams to `allowed` while another thread keeps writing `denied` over the port, or over
// the pointers that lead to it.
int Rewrite(Target target, uint16_t allowed, uint16_t denied, bool by_message, int rounds) {
  static sockaddr_in address;
  static sockaddr_in other;
  static iovec pieces[2];
  static mmsghdr messages[2];
  address = Loopback(allowed);
  other = Loopback(denied);
  char data[2] = {'x', 'y'};
  for (size_t i = 0; i < 2; ++i) {
    pieces[i] = {&data[i], 1};
    messages[i].msg_hdr.msg_name = &address;
    messages[i].msg_hdr.msg_namelen = sizeof address;
    messages[i].msg_hdr.msg_iov = pieces;
    messages[i].msg_hdr.msg_iovlen = 2;
  }
  std::atomic<bool> done{false};
  std::thread rewriter([&] {
    volatile uint16_t* port = &address.sin_port;
    void* volatile* first = &messages[0].msg_hdr.msg_name;
    void* volatile* second = &messages[1].msg_hdr.msg_name;
    volatile size_t* length = &pieces[1].iov_len;
    while (!done.load(std::memory_order_relaxed)) {
      switch (target) {
        case Target::kIovec:
          *length = ~size_t{0};
          *length = 1;
          [[fallthrough]];
        case Target::kSockaddr:
          *port = htons(denied);
          *port = htons(allowed);
          break;
        case Target::kMsghdr:
          *first = &other;
          *first = &address;
          break;
        case Target::kMmsghdr:
          *second = &other;
          *second = &address;
          break;
      }
    }
  });
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  for (int i = 0; i < rounds; ++i) {
    if (target == Target::kMmsghdr) {
      sendmmsg(fd, messages, 2, 0);
    } else if (by_message) {
      sendmsg(fd, &messages[0].msg_hdr, 0);
    } else {
      sendto(fd, "x", 1, 0, reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
  }
  done.store(true);
  rewriter.join();
  return 0;
}

// connect(2) on a number that another thread keeps switching between a unix and a TCP socket, with
// an address that changes with it.
int SwitchSocket(uint16_t denied, int rounds) {
  static union {
    sockaddr_in in;
    sockaddr_un un;
    sockaddr generic;
  } address;
  const sockaddr_in tcp_address = Loopback(denied);
  sockaddr_un unix_address = {};
  unix_address.sun_family = AF_UNIX;
  strcpy(unix_address.sun_path, "/nowhere");
  const int unix_fd = socket(AF_UNIX, SOCK_STREAM, 0);
  const int number = dup(unix_fd);
  std::atomic<bool> done{false};
  std::thread switcher([&] {
    while (!done.load(std::memory_order_relaxed)) {
      const int tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      dup2(tcp_fd, number);
      memcpy(&address, &tcp_address, sizeof tcp_address);
      close(tcp_fd);
      dup2(unix_fd, number);
      memcpy(&address, &unix_address, sizeof tcp_address);
    }
  });
  for (int i = 0; i < rounds; ++i) {
    connect(number, &address.generic, sizeof address.in);
  }
  done.store(true);
  switcher.join();
  return 0;
}

// The same with a number that is closed, and that the next socket gets.
int ReuseNumber(uint16_t denied, int rounds) {
  static union {
    sockaddr_in in;
    sockaddr_un un;
    sockaddr generic;
  } address;
  const sockaddr_in tcp_address = Loopback(denied);
  sockaddr_un unix_address = {};
  unix_address.sun_family = AF_UNIX;
  strcpy(unix_address.sun_path, "/nowhere");
  const int number = socket(AF_UNIX, SOCK_STREAM, 0);
  std::atomic<bool> done{false};
  std::thread switcher([&] {
    while (!done.load(std::memory_order_relaxed)) {
      close(number);
      // The lowest free number (open(2)) is the one that was closed.
      socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      memcpy(&address, &tcp_address, sizeof tcp_address);
      close(number);
      socket(AF_UNIX, SOCK_STREAM, 0);
      memcpy(&address, &unix_address, sizeof tcp_address);
    }
  });
  for (int i = 0; i < rounds; ++i) {
    connect(number, &address.generic, sizeof address.in);
  }
  done.store(true);
  switcher.join();
  return 0;
}

// An IPv6 socket that another thread turns into an IPv4 one (ipv6(7), IPV6_ADDRFORM) while the main
// thread sends to an address without a family. As IPv6 that is the connected peer, as IPv4 it is
// 127.0.0.2.
int ChangeDomain(uint16_t port, int rounds) {
  sockaddr_in6 allowed = {};
  allowed.sin6_family = AF_INET6;
  allowed.sin6_port = htons(port);
  inet_pton(AF_INET6, "::ffff:127.0.0.1", &allowed.sin6_addr);
  sockaddr_in6 unspecified = allowed;
  unspecified.sin6_family = AF_UNSPEC;
  unspecified.sin6_flowinfo = htonl(0x7f000002);  // where a sockaddr_in has its address
  std::atomic<int> current{-1};
  std::atomic<bool> done{false};
  std::thread changer([&] {
    const int domain = AF_INET;
    while (!done.load(std::memory_order_relaxed)) {
      const int fd = current.load();
      if (fd >= 0) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &domain, sizeof domain);
      }
    }
  });
  for (int i = 0; i < rounds; ++i) {
    const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    connect(fd, reinterpret_cast<const sockaddr*>(&allowed), sizeof allowed);
    current.store(fd);
    for (int j = 0; j < 4; ++j) {
      sendto(fd, "x", 1, 0, reinterpret_cast<const sockaddr*>(&unspecified), sizeof unspecified);
    }
    current.store(-1);
    close(fd);
  }
  done.store(true);
  changer.join();
  return 0;
}

// A thread whose descriptor of the same number is another socket than the main thread's. 4: a
// denied datagram went out, 2: the connect worked, 1: it connected the thread's own socket.
int OwnTable(uint16_t allowed, uint16_t denied) {
  const int number = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in to_allowed = Loopback(allowed);
  const sockaddr_in to_denied = Loopback(denied);
  connect(number, Generic(to_allowed), sizeof to_allowed);
  int result = -1;
  std::thread([&] {
    if (unshare(CLONE_FILES) != 0) {
      return;
    }
    const int own = socket(AF_INET, SOCK_DGRAM, 0);
    dup2(own, number);
    const bool sent = sendto(number, "x", 1, 0, Generic(to_denied), sizeof to_denied) == 1;
    const bool connected = connect(number, Generic(to_allowed), sizeof to_allowed) == 0;
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    getpeername(number, reinterpret_cast<sockaddr*>(&peer), &length);
    result = (sent ? 4 : 0) + (connected ? 2 : 0) + (peer.sin_port == to_allowed.sin_port ? 1 : 0);
  }).join();
  return result;
}

// 0 when a connect works as long as there is an agent (until something can be read from descriptor
// 0), and both a new and a hanging one fail with ENOSYS afterwards.
int WithoutAgent(uint16_t port, uint16_t full_port) {
  char go = 0;
  std::atomic<int> hanging_error{0};
  std::thread hanging([&] { hanging_error = ConnectError(full_port); });
  const bool before = ConnectError(port) == 0;
  if (read(0, &go, 1) != 1) {
    return 1;
  }
  const int after = ConnectError(port);
  hanging.join();
  return before && after == ENOSYS && hanging_error == ENOSYS ? 0 : 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  const auto number = [&](int i) { return i < argc ? atoi(argv[i]) : 0; };
  const auto port = [&](int i) { return static_cast<uint16_t>(number(i)); };
  if (what == "rewrite-sendto" || what == "rewrite-sendmsg") {
    return Rewrite(Target::kSockaddr, port(2), port(3), what == "rewrite-sendmsg", number(4));
  }
  if (what == "rewrite-msghdr") {
    return Rewrite(Target::kMsghdr, port(2), port(3), true, number(4));
  }
  if (what == "rewrite-mmsghdr") {
    return Rewrite(Target::kMmsghdr, port(2), port(3), true, number(4));
  }
  if (what == "rewrite-iovec") {
    return Rewrite(Target::kIovec, port(2), port(3), true, number(4));
  }
  if (what == "bad-input") {
    return CallBadly(static_cast<unsigned>(number(2)), number(3));
  }
  if (what == "far") {
    return SendFar(argc - 2, argv + 2);
  }
  if (what == "reuse") {
    return ReuseNumber(port(2), number(3));
  }
  if (what == "change-domain") {
    return ChangeDomain(port(2), number(3));
  }
  if (what == "switch") {
    return SwitchSocket(port(2), number(3));
  }
  if (what == "own-table") {
    return OwnTable(port(2), port(3));
  }
  if (what == "without-agent") {
    return WithoutAgent(port(2), port(3));
  }
  fprintf(stderr, "hostile: unknown way \"%s\"\n", argc > 1 ? argv[1] : "");
  return 99;
}
