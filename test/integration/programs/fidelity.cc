// Some sixty situations of socket calls, each printed as one line "name: result". Run with and
// without a guard that allows everything, the two outputs are equal. Loopback only.
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

namespace {

std::string Name(int error) { return error == 0 ? "0" : strerrorname_np(error); }

// A call's result: its value, or its errno's name.
std::string Result(long value) {
  return value >= 0 ? std::to_string(value) : std::string(strerrorname_np(errno));
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}
sockaddr_in6 Loopback6(uint16_t port) {
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
int Bound(int domain, int type, uint16_t& port) {
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
int Listening(uint16_t& port, int backlog = 16, int domain = AF_INET) {
  const int fd = Bound(domain, SOCK_STREAM, port);
  listen(fd, backlog);
  return fd;
}
// A port where nobody listens.
uint16_t ClosedPort() {
  uint16_t port = 0;
  close(Bound(AF_INET, SOCK_STREAM, port));
  return port;
}
int Tcp(int flags = 0) { return socket(AF_INET, SOCK_STREAM | flags, 0); }
int Udp(int flags = 0) { return socket(AF_INET, SOCK_DGRAM | flags, 0); }
int ConnectTo(int fd, uint16_t port) {
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

volatile sig_atomic_t g_signals = 0;
void OnSignal(int) { g_signals = g_signals + 1; }  // NOLINT: a handler needs a global

void CatchAlarm(int flags) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = flags;
  sigaction(SIGALRM, &action, nullptr);
  g_signals = 0;
}
void AlarmIn(int milliseconds) {
  itimerval timer = {};
  timer.it_value.tv_usec = milliseconds * 1000;
  setitimer(ITIMER_REAL, &timer, nullptr);
}
double Now() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}
// Which class of time a call took: at once, about the given seconds, or longer.
std::string Class(double seconds, double expected) {
  return seconds < expected * 0.6 ? "early" : seconds < expected + 0.4 ? "in time" : "late";
}
void SetTimeout(int fd, int option, int milliseconds) {
  const timeval value = {milliseconds / 1000, (milliseconds % 1000) * 1000};
  setsockopt(fd, SOL_SOCKET, option, &value, sizeof value);
}
int SocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}
std::string Received(int fd, int flags = MSG_DONTWAIT) {
  char buffer[256];
  const ssize_t got = recv(fd, buffer, sizeof buffer, flags);
  return got < 0 ? strerrorname_np(errno) : std::string(buffer, static_cast<size_t>(got));
}
bool Readable(int fd) {
  pollfd ready = {fd, POLLIN, 0};
  return poll(&ready, 1, 1000) == 1;
}

struct Case {
  const char* name;
  std::function<std::string()> run;
};

#define CASE(name) cases.push_back({name, []() -> std::string
#define END }

void AddConnectCases(std::vector<Case>& cases) {
  CASE("tcp connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    const std::string result = Result(ConnectTo(fd, port));
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    getpeername(fd, Generic(peer), &length);
    return result + " peer " + (ntohs(peer.sin_port) == port ? "right" : "wrong") + " flags " +
           std::to_string(fcntl(fd, F_GETFL));
  } END);
  CASE("tcp connect refused") {
    const Fd fd(Tcp());
    std::string result = Result(ConnectTo(fd, ClosedPort()));
    return result + " then SO_ERROR " + Name(SocketError(fd));
  } END);
  CASE("tcp connect refused, then elsewhere") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    std::string result = Result(ConnectTo(fd, ClosedPort()));
    return result + " " + Result(ConnectTo(fd, port));
  } END);
  CASE("tcp connect twice") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    return Result(ConnectTo(fd, port));
  } END);
  CASE("tcp non-blocking connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp(SOCK_NONBLOCK));
    std::string result = Result(ConnectTo(fd, port));
    pollfd ready = {fd, POLLOUT, 0};
    poll(&ready, 1, 1000);
    result += " poll " + std::to_string(ready.revents) + " SO_ERROR " + Name(SocketError(fd));
    result += " again " + Result(ConnectTo(fd, port));
    return result + " and " + Result(ConnectTo(fd, port));
  } END);
  CASE("tcp non-blocking connect refused") {
    const Fd fd(Tcp(SOCK_NONBLOCK));
    std::string result = Result(ConnectTo(fd, ClosedPort()));
    pollfd ready = {fd, POLLOUT, 0};
    poll(&ready, 1, 1000);
    return result + " poll " + std::to_string(ready.revents) + " SO_ERROR " + Name(SocketError(fd));
  } END);
  CASE("tcp non-blocking connect in progress, again") {
    const FullListener full;
    const Fd fd(Tcp(SOCK_NONBLOCK));
    std::string result = Result(ConnectTo(fd, full.port));
    return result + " " + Result(ConnectTo(fd, full.port));
  } END);
  CASE("tcp connect, epoll edges") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp(SOCK_NONBLOCK));
    const Fd epoll(epoll_create1(0));
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    epoll_event got = {};
    std::string result = "before " + std::to_string(epoll_wait(epoll, &got, 1, 0));
    ConnectTo(fd, port);
    result += " after " + std::to_string(epoll_wait(epoll, &got, 1, 1000));
    result += " events " + std::to_string(got.events);
    return result + " then " + std::to_string(epoll_wait(epoll, &got, 1, 50));
  } END);
  CASE("tcp connect with SO_SNDTIMEO to nowhere") {
    const FullListener full;
    const Fd fd(Tcp());
    SetTimeout(fd, SO_SNDTIMEO, 500);
    const double start = Now();
    std::string result = Result(ConnectTo(fd, full.port));
    result += " " + Class(Now() - start, 0.5);
    return result + " flags " + std::to_string(fcntl(fd, F_GETFL));
  } END);
  CASE("tcp connect to nowhere, signal without SA_RESTART") {
    const FullListener full;
    const Fd fd(Tcp());
    CatchAlarm(0);
    AlarmIn(300);
    const double start = Now();
    std::string result = Result(ConnectTo(fd, full.port));
    return result + " " + Class(Now() - start, 0.3) + " signals " + std::to_string(g_signals);
  } END);
  CASE("tcp connect, signal with SA_RESTART, then established") {
    FullListener full;
    const Fd fd(Tcp());
    CatchAlarm(SA_RESTART);
    AlarmIn(200);
    std::atomic<bool> done{false};
    std::thread opener([&] {
      usleep(600'000);
      full.Open(done);
    });
    std::string result = Result(ConnectTo(fd, full.port));
    done.store(true);
    result += " signals " + std::to_string(g_signals);
    opener.join();
    return result + " again " + Result(ConnectTo(fd, full.port));
  } END);
  CASE("tcp connect to nowhere, another thread shuts it down") {
    const FullListener full;
    const Fd fd(Tcp());
    std::thread other([&] {
      usleep(200'000);
      shutdown(fd, SHUT_RDWR);
    });
    std::string result = Result(ConnectTo(fd, full.port));
    other.join();
    return result;
  } END);
  CASE("tcp two threads connect one socket") {
    FullListener full;
    const Fd fd(Tcp());
    std::string first;
    std::string second;
    std::thread a([&] { first = Result(ConnectTo(fd, full.port)); });
    usleep(100'000);
    std::thread b([&] { second = Result(ConnectTo(fd, full.port)); });
    usleep(200'000);
    std::atomic<bool> done{false};
    std::thread opener([&] { full.Open(done); });
    a.join();
    b.join();
    done.store(true);
    opener.join();
    return first + " " + second;
  } END);
  CASE("tcp disconnect by AF_UNSPEC, connect again") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    sockaddr unspec = {};
    unspec.sa_family = AF_UNSPEC;
    std::string result = Result(connect(fd, &unspec, sizeof unspec));
    return result + " " + Result(ConnectTo(fd, port));
  } END);
  CASE("tcp connect to 0.0.0.0") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    sockaddr_in any = Loopback(port);
    any.sin_addr.s_addr = 0;
    return Result(connect(fd, Generic(any), sizeof any));
  } END);
  CASE("tcp6 connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port, 16, AF_INET6));
    const Fd fd(socket(AF_INET6, SOCK_STREAM, 0));
    const sockaddr_in6 address = Loopback6(port);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
  CASE("tcp6 connect to a mapped address") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(socket(AF_INET6, SOCK_STREAM, 0));
    sockaddr_in6 address = Loopback6(port);
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
  CASE("tcp6 connect with a sockaddr_in") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(socket(AF_INET6, SOCK_STREAM, 0));
    return Result(ConnectTo(fd, port));
  } END);
  CASE("tcp connect with a sockaddr_in6") {
    const Fd fd(Tcp());
    const sockaddr_in6 address = Loopback6(9);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
  CASE("connect bad arguments") {
    const Fd fd(Tcp());
    const Fd pipe_like(open("/dev/null", O_RDWR));
    const sockaddr_in address = Loopback(9);
    std::string result = Result(syscall(SYS_connect, -1, &address, sizeof address));
    result +=
        " " + Result(syscall(SYS_connect, static_cast<int>(pipe_like), &address, sizeof address));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), nullptr, sizeof address));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), 16, sizeof address));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, -1));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 129));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 0));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 1));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 8));
    result += " " + Result(syscall(SYS_connect, 9999, nullptr, -1));
    return result;
  } END);
  CASE("connect, address at the end of a page") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    char* pages = static_cast<char*>(
        mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    munmap(pages + page, page);
    const sockaddr_in address = Loopback(port);
    char* place = pages + page - sizeof address;
    memcpy(place, &address, sizeof address);
    const Fd fd(Tcp());
    std::string result = Result(syscall(SYS_connect, static_cast<int>(fd), place, sizeof address));
    const Fd other(Tcp());
    result += " " + Result(syscall(SYS_connect, static_cast<int>(other), place, 28));
    munmap(pages, page);
    return result;
  } END);
  CASE("udp connect, send, disconnect") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    std::string result = Result(ConnectTo(fd, port));
    result += " " + Result(send(fd, "hello", 5, 0));
    Readable(server);
    result += " " + Received(server);
    sockaddr unspec = {};
    result += " " + Result(connect(fd, &unspec, sizeof unspec));
    return result + " " + Result(send(fd, "hello", 5, 0));
  } END);
  CASE("udp connect to a closed port, ECONNREFUSED later") {
    uint16_t port = 0;
    close(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    std::string result = Result(ConnectTo(fd, port));
    result += " " + Result(send(fd, "x", 1, 0));
    usleep(50'000);
    return result + " " + Result(send(fd, "x", 1, 0));
  } END);
  CASE("udp connect to broadcast without SO_BROADCAST") {
    const Fd fd(Udp());
    sockaddr_in address = Loopback(9);
    inet_pton(AF_INET, "127.255.255.255", &address.sin_addr);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
}

void AddSendCases(std::vector<Case>& cases) {
  CASE("udp sendto") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    const sockaddr_in address = Loopback(port);
    std::string result = Result(sendto(fd, "hello", 5, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("udp sendto, nothing") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    const sockaddr_in address = Loopback(port);
    std::string result = Result(sendto(fd, nullptr, 0, 0, Generic(address), sizeof address));
    result += " readable " + std::to_string(Readable(server));
    return result + " \"" + Received(server) + "\"";
  } END);
  CASE("udp sendto sizes") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    const sockaddr_in address = Loopback(port);
    const std::vector<char> data(70'000, 'x');
    std::string result;
    for (const size_t size :
         {size_t{65'507}, size_t{65'508}, size_t{65'535}, size_t{65'536}, size_t{70'000}}) {
      result += Result(sendto(fd, data.data(), size, 0, Generic(address), sizeof address)) + " ";
    }
    return result + Result(syscall(SYS_sendto, static_cast<int>(fd), data.data(), SIZE_MAX / 4, 0,
                                   &address, sizeof address));
  } END);
  CASE("sendto bad arguments") {
    const Fd fd(Udp());
    const Fd file(open("/dev/null", O_RDWR));
    const sockaddr_in address = Loopback(9);
    const auto call = [&](int socket_fd, const void* data, size_t size, const void* to,
                          int length) {
      return Result(syscall(SYS_sendto, socket_fd, data, size, 0, to, length)) + " ";
    };
    std::string result = call(-1, "x", 1, &address, sizeof address);
    result += call(file, "x", 1, &address, sizeof address);
    result += call(fd, reinterpret_cast<void*>(16), 5, &address, sizeof address);
    result += call(fd, "x", 1, reinterpret_cast<void*>(16), sizeof address);
    result += call(fd, "x", 1, &address, -1);
    result += call(fd, "x", 1, &address, 129);
    result += call(fd, "x", 1, &address, 0);
    result += call(fd, "x", 1, &address, 8);
    result += call(fd, "x", 1, nullptr, 0);
    sockaddr_in odd = address;
    odd.sin_family = AF_APPLETALK;
    result += call(fd, "x", 1, &odd, sizeof odd);
    odd = address;
    odd.sin_port = 0;
    return result + call(fd, "x", 1, &odd, sizeof odd);
  } END);
  CASE("udp sendto with AF_UNSPEC") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    address.sin_family = AF_UNSPEC;
    std::string result = Result(sendto(fd, "u", 1, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("udp6 sendto a sockaddr_in") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(socket(AF_INET6, SOCK_DGRAM, 0));
    const sockaddr_in address = Loopback(port);
    std::string result = Result(sendto(fd, "6", 1, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("udp6 sendto ::") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET6, SOCK_DGRAM, port));
    const Fd fd(socket(AF_INET6, SOCK_DGRAM, 0));
    sockaddr_in6 address = Loopback6(port);
    address.sin6_addr = in6addr_any;
    std::string result = Result(sendto(fd, "6", 1, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("connected udp sendto elsewhere") {
    uint16_t one = 0;
    uint16_t two = 0;
    const Fd first(Bound(AF_INET, SOCK_DGRAM, one));
    const Fd second(Bound(AF_INET, SOCK_DGRAM, two));
    const Fd fd(Udp());
    ConnectTo(fd, one);
    const sockaddr_in address = Loopback(two);
    std::string result = Result(sendto(fd, "e", 1, 0, Generic(address), sizeof address));
    Readable(second);
    result += " " + Received(second);
    return result + " " + Received(first);
  } END);
  CASE("tcp sendto with an address") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    const sockaddr_in address = Loopback(9);
    std::string result = Result(sendto(fd, "data", 4, 0, Generic(address), sizeof address));
    Readable(peer);
    return result + " " + Received(peer);
  } END);
  CASE("tcp sendto unconnected, MSG_NOSIGNAL") {
    const Fd fd(Tcp());
    const sockaddr_in address = Loopback(9);
    return Result(sendto(fd, "data", 4, MSG_NOSIGNAL, Generic(address), sizeof address));
  } END);
  CASE("tcp sendto unconnected raises SIGPIPE") {
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    sigaction(SIGPIPE, &action, nullptr);
    g_signals = 0;
    const Fd fd(Tcp());
    const sockaddr_in address = Loopback(9);
    std::string result = Result(sendto(fd, "data", 4, 0, Generic(address), sizeof address));
    usleep(100'000);
    result += " signals " + std::to_string(g_signals);
    signal(SIGPIPE, SIG_DFL);
    return result;
  } END);
  CASE("tcp sendto large, blocking") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(20'000'000);
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<char>(i * 7 + i / 1000);
    }
    size_t total = 0;
    bool same = true;
    std::thread reader([&] {
      std::vector<char> buffer(300'000);
      for (ssize_t got = 0; (got = recv(peer, buffer.data(), buffer.size(), 0)) > 0;) {
        same = same && memcmp(buffer.data(), data.data() + total, static_cast<size_t>(got)) == 0;
        total += static_cast<size_t>(got);
        usleep(500);
      }
    });
    const sockaddr_in address = Loopback(9);
    std::string result =
        Result(sendto(fd, data.data(), data.size(), 0, Generic(address), sizeof address));
    shutdown(fd, SHUT_WR);
    reader.join();
    return result + " received " + std::to_string(total) + (same ? " same" : " different");
  } END);
  CASE("tcp sendmsg large, blocking, many pieces") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(5'000'000);
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<char>(i * 3 + i / 777);
    }
    std::vector<iovec> pieces;
    for (size_t at = 0; at < data.size(); at += 5'000) {
      pieces.push_back({data.data() + at, 5'000});
    }
    size_t total = 0;
    bool same = true;
    std::thread reader([&] {
      std::vector<char> buffer(100'000);
      for (ssize_t got = 0; (got = recv(peer, buffer.data(), buffer.size(), 0)) > 0;) {
        same = same && memcmp(buffer.data(), data.data() + total, static_cast<size_t>(got)) == 0;
        total += static_cast<size_t>(got);
      }
    });
    msghdr message = {};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    std::string result = Result(sendmsg(fd, &message, 0));
    shutdown(fd, SHUT_WR);
    reader.join();
    return result + " received " + std::to_string(total) + (same ? " same" : " different");
  } END);
  CASE("tcp sendmsg non-blocking, buffer full") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(200'000, 'n');
    iovec piece = {data.data(), data.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    ssize_t last = 0;
    int rounds = 0;
    while ((last = sendmsg(fd, &message, MSG_DONTWAIT)) > 0 && rounds < 1000) {
      ++rounds;
    }
    return Result(last) + (rounds > 0 ? " after some" : " at once");
  } END);
  CASE("tcp sendmsg blocking with SO_SNDTIMEO, buffer full") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(200'000, 'n');
    while (send(fd, data.data(), data.size(), MSG_DONTWAIT) > 0) {
    }
    SetTimeout(fd, SO_SNDTIMEO, 400);
    iovec piece = {data.data(), data.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const double start = Now();
    std::string result = Result(sendmsg(fd, &message, 0));
    return result + " " + Class(Now() - start, 0.4);
  } END);
  CASE("tcp sendmsg blocking, buffer full, signal without SA_RESTART") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(200'000, 'n');
    while (send(fd, data.data(), data.size(), MSG_DONTWAIT) > 0) {
    }
    CatchAlarm(0);
    AlarmIn(300);
    iovec piece = {data.data(), data.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const double start = Now();
    std::string result = Result(sendmsg(fd, &message, 0));
    return result + " " + Class(Now() - start, 0.3);
  } END);
  CASE("sendmsg bad arguments") {
    const Fd fd(Udp());
    sockaddr_in address = Loopback(9);
    iovec piece = {const_cast<char*>("x"), 1};
    msghdr good = {};
    good.msg_name = &address;
    good.msg_namelen = sizeof address;
    good.msg_iov = &piece;
    good.msg_iovlen = 1;
    const auto call = [&](const std::function<void(msghdr&)>& change) {
      msghdr message = good;
      change(message);
      return Result(syscall(SYS_sendmsg, static_cast<int>(fd), &message, 0)) + " ";
    };
    std::string result = call([](msghdr&) {});
    result += Result(syscall(SYS_sendmsg, static_cast<int>(fd), 16, 0)) + " ";
    result += Result(syscall(SYS_sendmsg, -1, &good, 0)) + " ";
    result += call([](msghdr& m) { m.msg_name = reinterpret_cast<void*>(16); });
    result += call([](msghdr& m) { m.msg_namelen = static_cast<socklen_t>(-1); });
    result += call([](msghdr& m) { m.msg_namelen = 4; });
    result += call([](msghdr& m) { m.msg_name = nullptr; });
    result += call([](msghdr& m) { m.msg_iov = reinterpret_cast<iovec*>(16); });
    result += call([](msghdr& m) { m.msg_iovlen = 1025; });
    result += call([](msghdr& m) { m.msg_iovlen = 0; });
    iovec negative = {piece.iov_base, static_cast<size_t>(-1)};
    result += call([&](msghdr& m) { m.msg_iov = &negative; });
    iovec nowhere = {reinterpret_cast<void*>(16), 5};
    result += call([&](msghdr& m) { m.msg_iov = &nowhere; });
    result += call([](msghdr& m) {
      m.msg_control = reinterpret_cast<void*>(16);
      m.msg_controllen = 32;
    });
    char control[64] = {};
    result += call([&](msghdr& m) {
      m.msg_control = control;
      m.msg_controllen = sizeof control;
    });
    return result;
  } END);
  CASE("udp sendmsg with IP_PKTINFO") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    iovec piece = {const_cast<char*>("pkt"), 3};
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
    inet_pton(AF_INET, "127.0.0.5", &info.ipi_spec_dst);
    memcpy(CMSG_DATA(header), &info, sizeof info);
    std::string result = Result(sendmsg(fd, &message, 0));
    char buffer[16];
    sockaddr_in from = {};
    socklen_t length = sizeof from;
    Readable(server);
    recvfrom(server, buffer, sizeof buffer, MSG_DONTWAIT, Generic(from), &length);
    char text[INET_ADDRSTRLEN];
    return result + " from " + inet_ntop(AF_INET, &from.sin_addr, text, sizeof text);
  } END);
  CASE("udp sendmmsg") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    iovec pieces[3] = {
        {const_cast<char*>("one"), 3}, {const_cast<char*>("three"), 5}, {const_cast<char*>(""), 0}};
    mmsghdr messages[3] = {};
    for (int i = 0; i < 3; ++i) {
      messages[i].msg_hdr.msg_name = &address;
      messages[i].msg_hdr.msg_namelen = sizeof address;
      messages[i].msg_hdr.msg_iov = &pieces[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_len = 77;
    }
    std::string result = Result(sendmmsg(fd, messages, 3, 0));
    for (const mmsghdr& message : messages) {
      result += " " + std::to_string(message.msg_len);
    }
    Readable(server);
    result += " " + Received(server);
    return result + " " + Received(server);
  } END);
  CASE("udp sendmmsg, second entry bad") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    iovec piece = {const_cast<char*>("one"), 3};
    mmsghdr messages[3] = {};
    for (auto& message : messages) {
      message.msg_hdr.msg_name = &address;
      message.msg_hdr.msg_namelen = sizeof address;
      message.msg_hdr.msg_iov = &piece;
      message.msg_hdr.msg_iovlen = 1;
      message.msg_len = 77;
    }
    messages[1].msg_hdr.msg_iov = reinterpret_cast<iovec*>(16);
    std::string result = Result(sendmmsg(fd, messages, 3, 0));
    for (const mmsghdr& message : messages) {
      result += " " + std::to_string(message.msg_len);
    }
    messages[0].msg_hdr.msg_iovlen = 2000;
    result += " first bad " + Result(sendmmsg(fd, messages, 3, 0));
    result += " none " + Result(sendmmsg(fd, messages, 0, 0));
    result += " nowhere " + Result(syscall(SYS_sendmmsg, static_cast<int>(fd), 16, 2, 0));
    return result + " bad fd " + Result(sendmmsg(-1, messages, 1, 0));
  } END);
  CASE("udp sendmsg MSG_DONTWAIT keeps the flags of the socket") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    sendto(fd, "x", 1, MSG_DONTWAIT, Generic(address), sizeof address);
    return std::to_string(fcntl(fd, F_GETFL)) + " " + std::to_string(fcntl(fd, F_GETFD));
  } END);
}

void AddUnixCases(std::vector<Case>& cases) {
  CASE("unix stream by path, credentials") {
    const std::string path = "/tmp/oakum-fidelity-" + std::to_string(getpid());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(bind(listener, Generic(address), sizeof address));
    listen(listener, 4);
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    result += " " + Result(connect(fd, Generic(address), sizeof address));
    const Fd peer(accept(listener, nullptr, nullptr));
    ucred credentials = {};
    socklen_t length = sizeof credentials;
    getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &length);
    result += " uid " + std::to_string(credentials.uid) + " gid " + std::to_string(credentials.gid);
    sockaddr_un name = {};
    length = sizeof name;
    getpeername(fd, Generic(name), &length);
    result += path == name.sun_path ? " name right" : std::string(" name ") + name.sun_path;
    unlink(path.c_str());
    const Fd late(socket(AF_UNIX, SOCK_STREAM, 0));
    return result + " then " + Result(connect(late, Generic(address), sizeof address));
  } END);
  CASE("unix stream by relative path") {
    const std::string path = "oakum-fidelity-rel-" + std::to_string(getpid());
    if (chdir("/tmp") != 0) {
      return "chdir";
    }
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(bind(listener, Generic(address), sizeof address));
    listen(listener, 4);
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    result += " " + Result(connect(fd, Generic(address), sizeof address));
    unlink(path.c_str());
    return result;
  } END);
  CASE("unix stream abstract") {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = "oakum-fidelity-" + std::to_string(getpid());
    memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(bind(listener, Generic(address), length));
    listen(listener, 0);
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    result += " " + Result(connect(fd, Generic(address), length));
    const Fd second(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    result += " " + Result(connect(second, Generic(address), length));
    const Fd third(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    return result + " full " + Result(connect(third, Generic(address), length));
  } END);
  CASE("unix stream, queue full, accepted later") {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = "oakum-fidelity-q-" + std::to_string(getpid());
    memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    bind(listener, Generic(address), length);
    listen(listener, 0);
    const Fd first(socket(AF_UNIX, SOCK_STREAM, 0));
    connect(first, Generic(address), length);
    std::thread acceptor([&] {
      usleep(300'000);
      const Fd a(accept(listener, nullptr, nullptr));
    });
    const Fd second(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(connect(second, Generic(address), length));
    acceptor.join();
    return result;
  } END);
  CASE("unix datagram sendto a path") {
    const std::string path = "/tmp/oakum-fidelity-dgram-" + std::to_string(getpid());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const Fd server(socket(AF_UNIX, SOCK_DGRAM, 0));
    bind(server, Generic(address), sizeof address);
    const Fd fd(socket(AF_UNIX, SOCK_DGRAM, 0));
    std::string result = Result(sendto(fd, "dgram", 5, 0, Generic(address), sizeof address));
    result += " " + Received(server);
    unlink(path.c_str());
    return result + " " + Result(sendto(fd, "dgram", 5, 0, Generic(address), sizeof address));
  } END);
  CASE("unix socketpair sendmsg with descriptors and credentials") {
    int pair[2] = {-1, -1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    const Fd left(pair[0]);
    const Fd right(pair[1]);
    const int on = 1;
    setsockopt(right, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    int pipes[2] = {-1, -1};
    if (pipe(pipes) != 0) {
      return "pipe";
    }
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec piece = {const_cast<char*>("fd"), 2};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pipes[1], sizeof(int));
    std::string result = Result(sendmsg(left, &message, 0));
    alignas(cmsghdr) char received[256] = {};
    char data[8] = {};
    iovec into = {data, sizeof data};
    msghdr incoming = {};
    incoming.msg_iov = &into;
    incoming.msg_iovlen = 1;
    incoming.msg_control = received;
    incoming.msg_controllen = sizeof received;
    result +=
        " " + Result(recvmsg(right, &incoming, 0)) + " flags " + std::to_string(incoming.msg_flags);
    for (cmsghdr* at = CMSG_FIRSTHDR(&incoming); at != nullptr; at = CMSG_NXTHDR(&incoming, at)) {
      if (at->cmsg_type == SCM_RIGHTS) {
        int passed = -1;
        memcpy(&passed, CMSG_DATA(at), sizeof passed);
        result += " wrote " + Result(write(passed, "through", 7));
        char buffer[8] = {};
        result += " read " + Result(read(pipes[0], buffer, sizeof buffer));
        close(passed);
      } else if (at->cmsg_type == SCM_CREDENTIALS) {
        ucred credentials = {};
        memcpy(&credentials, CMSG_DATA(at), sizeof credentials);
        result += credentials.pid == getpid() ? " pid right" : " pid wrong";
        result += " uid " + std::to_string(credentials.uid);
      }
    }
    close(pipes[0]);
    close(pipes[1]);
    return result;
  } END);
  CASE("unix socketpair sendmsg of a bad descriptor") {
    int pair[2] = {-1, -1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    const Fd left(pair[0]);
    const Fd right(pair[1]);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec piece = {const_cast<char*>("fd"), 2};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int bad = 777;
    memcpy(CMSG_DATA(header), &bad, sizeof bad);
    std::string result = Result(sendmsg(left, &message, 0));
    header->cmsg_len = 3;
    return result + " " + Result(sendmsg(left, &message, 0));
  } END);
  CASE("unix socketpair sendmsg to a closed peer") {
    int pair[2] = {-1, -1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    close(pair[1]);
    const Fd left(pair[0]);
    iovec piece = {const_cast<char*>("fd"), 2};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    return Result(sendmsg(left, &message, MSG_NOSIGNAL));
  } END);
  CASE("netlink route dump") {
    const Fd fd(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    struct {
      nlmsghdr header;
      rtgenmsg body;
    } request = {};
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.body);
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    sockaddr_nl kernel = {};
    kernel.nl_family = AF_NETLINK;
    std::string result =
        Result(sendto(fd, &request, request.header.nlmsg_len, 0, Generic(kernel), sizeof kernel));
    char buffer[16384];
    const ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    nlmsghdr first = {};
    memcpy(&first, buffer, sizeof first);
    return result + (got > 0 && first.nlmsg_type == RTM_NEWLINK ? " links" : " nothing");
  } END);
}

void AddIncomingCases(std::vector<Case>& cases) {
  CASE("bind, listen, accept") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    const Fd accepted(accept4(listener, Generic(peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    sockaddr_in own = {};
    socklen_t own_length = sizeof own;
    getsockname(fd, Generic(own), &own_length);
    return std::string(accepted >= 0 ? "accepted" : strerrorname_np(errno)) + " length " +
           std::to_string(length) + " peer " + (peer.sin_port == own.sin_port ? "right" : "wrong") +
           " flags " + std::to_string(fcntl(accepted, F_GETFL)) + " " +
           std::to_string(fcntl(accepted, F_GETFD));
  } END);
  CASE("accept plain flags, short address") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    char peer[4] = {};
    socklen_t length = sizeof peer;
    const Fd accepted(accept(listener, reinterpret_cast<sockaddr*>(peer), &length));
    return "length " + std::to_string(length) + " flags " +
           std::to_string(fcntl(accepted, F_GETFL)) + " " +
           std::to_string(fcntl(accepted, F_GETFD));
  } END);
  CASE("accept non-blocking, nobody") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    return Result(accept(listener, nullptr, nullptr));
  } END);
  CASE("accept blocking, later") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    std::thread client([port] {
      usleep(200'000);
      const Fd fd(Tcp());
      ConnectTo(fd, port);
      usleep(50'000);
    });
    const Fd accepted(accept(listener, nullptr, nullptr));
    client.join();
    return accepted >= 0 ? "accepted" : strerrorname_np(errno);
  } END);
  CASE("accept with SO_RCVTIMEO") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    SetTimeout(listener, SO_RCVTIMEO, 300);
    const double start = Now();
    std::string result = Result(accept(listener, nullptr, nullptr));
    return result + " " + Class(Now() - start, 0.3);
  } END);
  CASE("accept, signal without SA_RESTART") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    CatchAlarm(0);
    AlarmIn(200);
    return Result(accept(listener, nullptr, nullptr));
  } END);
  CASE("accept, signal with SA_RESTART, then a client") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    CatchAlarm(SA_RESTART);
    AlarmIn(150);
    std::thread client([port] {
      usleep(500'000);
      const Fd fd(Tcp());
      ConnectTo(fd, port);
      usleep(50'000);
    });
    const Fd accepted(accept(listener, nullptr, nullptr));
    client.join();
    return std::string(accepted >= 0 ? "accepted" : strerrorname_np(errno)) + " signals " +
           std::to_string(g_signals);
  } END);
  CASE("accept bad arguments") {
    const Fd fd(Tcp());
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd udp(Udp());
    std::string result = Result(accept(-1, nullptr, nullptr));
    result += " " + Result(accept(fd, nullptr, nullptr));
    result += " " + Result(accept4(listener, nullptr, nullptr, 0x12345));
    result += " " + Result(accept(udp, nullptr, nullptr));
    ConnectTo(fd, port);
    char room[64];
    result += " " + Result(syscall(SYS_accept, static_cast<int>(listener), room, 16));
    const Fd other(Tcp());
    ConnectTo(other, port);
    int negative = -5;
    return result + " " + Result(syscall(SYS_accept, static_cast<int>(listener), room, &negative));
  } END);
  CASE("bind bad arguments") {
    const Fd fd(Tcp());
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const sockaddr_in taken = Loopback(port);
    sockaddr_in foreign = Loopback(0);
    inet_pton(AF_INET, "192.0.2.1", &foreign.sin_addr);
    std::string result = Result(bind(fd, Generic(taken), sizeof taken));
    result += " " + Result(bind(fd, Generic(foreign), sizeof foreign));
    result += " " + Result(bind(fd, Generic(taken), 4));
    result += " " + Result(bind(-1, Generic(taken), sizeof taken));
    result += " " + Result(syscall(SYS_bind, static_cast<int>(fd), 16, sizeof taken));
    const sockaddr_in free_port = Loopback(0);
    result += " " + Result(bind(fd, Generic(free_port), sizeof free_port));
    return result + " " + Result(bind(fd, Generic(free_port), sizeof free_port));
  } END);
  CASE("bind an unspecified family") {
    const Fd fd(Tcp());
    sockaddr_in any = {};
    std::string result = Result(bind(fd, Generic(any), sizeof any));
    const Fd other(Tcp());
    sockaddr_in loopback = Loopback(0);
    loopback.sin_family = AF_UNSPEC;
    return result + " " + Result(bind(other, Generic(loopback), sizeof loopback));
  } END);
  CASE("listen twice and on a datagram socket") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd udp(Udp());
    std::string result = Result(listen(listener, 3));
    result += " " + Result(listen(udp, 3));
    return result + " " + Result(listen(-1, 3));
  } END);
  CASE("listen without bind") {
    const Fd fd(Tcp());
    std::string result = Result(listen(fd, 3));
    sockaddr_in own = {};
    socklen_t length = sizeof own;
    getsockname(fd, Generic(own), &length);
    return result + (own.sin_port != 0 ? " port" : " no port");
  } END);
  CASE("vfork child and exec'd child connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    std::string result;
    const pid_t child = fork();
    if (child == 0) {
      const Fd fd(Tcp());
      _exit(ConnectTo(fd, port) == 0 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return "child " + std::to_string(WEXITSTATUS(status));
  } END);
  CASE("socket kinds") {
    std::string result;
    for (const int domain : {AF_UNIX, AF_INET, AF_INET6}) {
      for (const int type :
           {int{SOCK_STREAM}, int{SOCK_DGRAM}, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC}) {
        const Fd fd(socket(domain, type, 0));
        result += (fd >= 0 ? "ok" : strerrorname_np(errno)) + std::string(" ");
      }
    }
    return result;
  } END);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Case> cases;
  AddConnectCases(cases);
  AddSendCases(cases);
  AddUnixCases(cases);
  AddIncomingCases(cases);
  for (const Case& one : cases) {
    if (argc > 1 && strstr(one.name, argv[1]) == nullptr) {
      continue;
    }
    // A case that hangs is a result as well.
    alarm(0);
    const std::string line = std::string(one.name) + ": " + one.run() + "\n";
    if (write(1, line.data(), line.size()) < 0) {
      return 1;
    }
  }
  return 0;
}
