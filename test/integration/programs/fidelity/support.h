// What the cases of the fidelity program share: sockets on loopback, and results as text.
#ifndef OAKUM_TEST_FIDELITY_SUPPORT_H_
#define OAKUM_TEST_FIDELITY_SUPPORT_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace oakum::fidelity {

inline std::string Name(int error) { return error == 0 ? "0" : strerrorname_np(error); }

// A call's result: its value, or its errno's name.
inline std::string Result(long value) {
  return value >= 0 ? std::to_string(value) : std::string(strerrorname_np(errno));
}

inline sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}
inline sockaddr_in6 Loopback6(uint16_t port) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  return address;
}
template <typename T>
const sockaddr* Generic(const T& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}
template <typename T>
sockaddr* Generic(T& address) {
  return reinterpret_cast<sockaddr*>(&address);
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  operator int() const { return fd_; }  // NOLINT: a test program

 private:
  int fd_;
};

// A bound socket of the given kind; `port` is where.
inline int Bound(int domain, int type, uint16_t& port) {
  const int fd = socket(domain, type, 0);
  if (domain == AF_INET) {
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof address;
    bind(fd, Generic(address), sizeof address);
    getsockname(fd, Generic(address), &length);
    port = ntohs(address.sin_port);
  } else {
    sockaddr_in6 address = Loopback6(0);
    socklen_t length = sizeof address;
    bind(fd, Generic(address), sizeof address);
    getsockname(fd, Generic(address), &length);
    port = ntohs(address.sin6_port);
  }
  return fd;
}
inline int Listening(uint16_t& port, int backlog = 16, int domain = AF_INET) {
  const int fd = Bound(domain, SOCK_STREAM, port);
  listen(fd, backlog);
  return fd;
}
// A port where nobody listens.
inline uint16_t ClosedPort() {
  uint16_t port = 0;
  close(Bound(AF_INET, SOCK_STREAM, port));
  return port;
}
inline int Tcp(int flags = 0) { return socket(AF_INET, SOCK_STREAM | flags, 0); }
inline int Udp(int flags = 0) { return socket(AF_INET, SOCK_DGRAM | flags, 0); }
inline int ConnectTo(int fd, uint16_t port) {
  const sockaddr_in address = Loopback(port);
  return connect(fd, Generic(address), sizeof address);
}

// A listener whose queue is full: connecting to it hangs.
struct FullListener {
  uint16_t port = 0;
  int listener;
  std::vector<int> fillers;
  FullListener() : listener(Listening(port, 0)) {
    fcntl(listener, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 4; ++i) {
      const int fd = Tcp(SOCK_NONBLOCK);
      ConnectTo(fd, port);
      fillers.push_back(fd);
    }
    usleep(50'000);
  }
  // Makes room again and again, until everybody who knocks has been let in or `done` is set.
  void Open(const std::atomic<bool>& done) const {
    for (int i = 0; i < 500 && !done.load(); ++i) {
      const int accepted = accept(listener, nullptr, nullptr);
      if (accepted >= 0) {
        close(accepted);
      } else {
        usleep(20'000);
      }
    }
  }
  ~FullListener() {
    close(listener);
    for (const int fd : fillers) {
      close(fd);
    }
  }
};

inline volatile sig_atomic_t g_signals = 0;
inline void OnSignal(int) { g_signals = g_signals + 1; }  // NOLINT: a handler needs a global

inline void CatchAlarm(int flags) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = flags;
  sigaction(SIGALRM, &action, nullptr);
  g_signals = 0;
}
inline void AlarmIn(int milliseconds) {
  itimerval timer = {};
  timer.it_value.tv_usec = milliseconds * 1000;
  setitimer(ITIMER_REAL, &timer, nullptr);
}
inline double Now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}
// Which class of time a call took: at once, about the given seconds, or longer.
inline std::string Class(double seconds, double expected) {
  return seconds < expected * 0.6 ? "early" : seconds < expected + 0.4 ? "in time" : "late";
}
inline void SetTimeout(int fd, int option, int milliseconds) {
  const timeval value = {milliseconds / 1000, (milliseconds % 1000) * 1000};
  setsockopt(fd, SOL_SOCKET, option, &value, sizeof value);
}
inline int SocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}
inline std::string Received(int fd, int flags = MSG_DONTWAIT) {
  char buffer[256];
  const ssize_t got = recv(fd, buffer, sizeof buffer, flags);
  return got < 0 ? strerrorname_np(errno) : std::string(buffer, static_cast<size_t>(got));
}
inline bool Readable(int fd) {
  pollfd ready = {fd, POLLIN, 0};
  return poll(&ready, 1, 1000) == 1;
}

struct Case {
  const char* name;
  std::function<std::string()> run;
};

#define CASE(name) cases.push_back({name, []() -> std::string
#define END }

void AddConnectCases(std::vector<Case>& cases);
void AddSendCases(std::vector<Case>& cases);
void AddUnixCases(std::vector<Case>& cases);
void AddIncomingCases(std::vector<Case>& cases);

}  // namespace oakum::fidelity

#endif  // OAKUM_TEST_FIDELITY_SUPPORT_H_
