#include "bench/programs.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

namespace oakum::bench {

namespace {

constexpr size_t kThreads = 8;
constexpr size_t kMessages = 64;

double Nanoseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

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

int Connect(int fd, const sockaddr_in& address) {
  return connect(fd, Generic(address), sizeof address);
}

// A socket of that type on a free port of loopback, and its address.
int Bound(int type, sockaddr_in& address) {
  const int fd = socket(AF_INET, type, 0);
  address = Loopback(0);
  socklen_t length = sizeof address;
  if (bind(fd, Generic(address), sizeof address) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return -1;
  }
  return fd;
}

int Report(int output_fd, const Figures& figures) {
  return write(output_fd, &figures, sizeof figures) == sizeof figures ? 0 : 1;
}

int Report(int output_fd, std::vector<double>& samples) {
  std::ranges::sort(samples);
  double sum = 0;
  for (const double sample : samples) {
    sum += sample;
  }
  return Report(output_fd, {samples[samples.size() / 2], samples[samples.size() * 99 / 100],
                            sum / static_cast<double>(samples.size())});
}

// Times `call`, which says whether it went well, `calls` times and a tenth more before.
template <typename Call>
int Time(int output_fd, size_t calls, Call call) {
  std::vector<double> samples(calls);
  for (size_t i = 0; i < calls / 10; ++i) {
    (void)call();
  }
  for (double& sample : samples) {
    const double start = Nanoseconds();
    if (!call()) {
      return 1;
    }
    sample = Nanoseconds() - start;
  }
  return Report(output_fd, samples);
}

int UdpConnects(int output_fd, size_t calls) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in address = Loopback(9);
  return Time(output_fd, calls, [&] { return Connect(fd, address) == 0; });
}

int TcpConnects(int output_fd, size_t calls) {
  sockaddr_in address = {};
  const int listener = Bound(SOCK_STREAM, address);
  if (listener < 0 || listen(listener, 16) != 0) {
    return 1;
  }
  const linger reset = {1, 0};  // no TIME_WAIT: ports do not run out
  std::vector<double> samples(calls);
  for (double& sample : samples) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const double start = Nanoseconds();
    if (Connect(fd, address) != 0) {
      return 1;
    }
    sample = Nanoseconds() - start;
    const int accepted = accept(listener, nullptr, nullptr);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    close(accepted);
  }
  return Report(output_fd, samples);
}

// All at once; the time of a call is then what passes until the next one of any thread is over.
int ThreadConnects(int output_fd, size_t calls) {
  std::atomic<bool> failed{false};
  const double start = Nanoseconds();
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&failed, count = (calls + kThreads - 1) / kThreads] {
      const int fd = socket(AF_INET, SOCK_DGRAM, 0);
      const sockaddr_in address = Loopback(9);
      for (size_t done = 0; done < count; ++done) {
        failed = failed || Connect(fd, address) != 0;
      }
    });
  }
  threads.clear();
  const double each = (Nanoseconds() - start) / static_cast<double>(calls);
  return failed ? 1 : Report(output_fd, {each, each, each});
}

// To a socket that nobody reads, so that most are thrown away there.
int UdpSends(int output_fd, size_t calls) {
  sockaddr_in address = {};
  const int receiver = Bound(SOCK_DGRAM, address);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const std::array<char, 64> payload = {};
  return receiver < 0 ? 1
                      : Time(
                            output_fd, calls,
                            [&] {
                              return sendto(fd, payload.data(), payload.size(), 0, Generic(address),
                                            sizeof address) == static_cast<ssize_t>(payload.size());
                            });
}

int UdpSendsMany(int output_fd, size_t calls) {
  sockaddr_in address = {};
  const int receiver = Bound(SOCK_DGRAM, address);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  std::array<char, 64> payload = {};
  iovec piece = {payload.data(), payload.size()};
  std::array<mmsghdr, kMessages> messages = {};
  for (mmsghdr& message : messages) {
    message.msg_hdr.msg_name = &address;
    message.msg_hdr.msg_namelen = sizeof address;
    message.msg_hdr.msg_iov = &piece;
    message.msg_hdr.msg_iovlen = 1;
  }
  return receiver < 0
             ? 1
             : Time(
                   output_fd, std::max<size_t>(1, calls / kMessages),
                   [&] {
                     return sendmmsg(fd, messages.data(), kMessages, 0) == int{kMessages} &&
                            messages.back().msg_len == payload.size();
                   });
}

// What the guard has no part in: a byte there and back on a connection, by four system calls.
int ConnectedBytes(int output_fd, size_t calls) {
  sockaddr_in address = {};
  const int listener = Bound(SOCK_STREAM, address);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0 || listen(listener, 1) != 0 || Connect(fd, address) != 0) {
    return 1;
  }
  const int peer = accept(listener, nullptr, nullptr);
  return Time(output_fd, calls, [&] {
    char byte = 'x';
    return send(fd, &byte, 1, 0) == 1 && read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1 &&
           recv(fd, &byte, 1, 0) == 1;
  });
}

int Sockets(int output_fd, size_t calls) {
  return Time(output_fd, calls, [] {
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd >= 0 && close(fd) == 0;
  });
}

constexpr std::array kPrograms = {
    Program{"connect, UDP", UdpConnects, 1},
    Program{"connect, TCP", TcpConnects, 1},
    Program{"connect, UDP, 8 threads", ThreadConnects, 1},
    Program{"sendto, UDP", UdpSends, 1},
    Program{"sendmmsg of 64, UDP", UdpSendsMany, kMessages},
    Program{"send, read, write, recv, connected TCP", ConnectedBytes, 0},
    Program{"socket, close", Sockets, 0},
};

}  // namespace

std::span<const Program> Programs() { return kPrograms; }

}  // namespace oakum::bench
