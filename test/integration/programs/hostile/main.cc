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

// Sends datagrams to `allowed` while another thread keeps writing `denied` over the port.
int RewriteSockaddr(uint16_t allowed, uint16_t denied, bool by_message, int rounds) {
  static sockaddr_in address;
  address = Loopback(allowed);
  std::atomic<bool> done{false};
  std::thread rewriter([&] {
    volatile uint16_t* port = &address.sin_port;
    while (!done.load(std::memory_order_relaxed)) {
      *port = htons(denied);
      *port = htons(allowed);
    }
  });
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  iovec piece = {const_cast<char*>("x"), 1};
  for (int i = 0; i < rounds; ++i) {
    if (by_message) {
      msghdr message = {};
      message.msg_name = &address;
      message.msg_namelen = sizeof address;
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      sendmsg(fd, &message, 0);
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
    return RewriteSockaddr(port(2), port(3), what == "rewrite-sendmsg", number(4));
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
