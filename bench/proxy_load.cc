// The programs that bench/proxies runs bare, through a proxy of their own and redirected:
//   oakum-proxy-load serve|proxy ADDRESS PORT
//   oakum-proxy-load bulk|connects|parallel|resolve ADDRESS PORT [--socks ADDRESS:PORT] ...
// Each prints one figure: bytes or operations per second. A connection to the server says how many
// bytes it wants (8 bytes, in the machine's order) and gets them; a datagram comes back as the
// answer to a DNS query.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "bench/splice_proxy.h"

namespace oakum::bench {
namespace {

constexpr size_t kBuffer = size_t{256} << 10U;
constexpr int kAnswerMs = 60000;

[[noreturn]] void Fail(std::string_view what) {
  fmt::print(stderr, "oakum-proxy-load: {}: {}\n", what, strerror(errno));
  exit(1);
}

void Check(bool worked, std::string_view what) {
  if (!worked) {
    Fail(what);
  }
}

UniqueFd Socket(int type) {
  UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  Check(fd.valid(), "socket");
  return fd;
}

sockaddr_in Address(const std::string& text, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  Check(inet_pton(AF_INET, text.c_str(), &address.sin_addr) == 1, text);
  return address;
}

const sockaddr* Generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

void SendAll(int fd, const void* data, size_t size) {
  const char* const bytes = static_cast<const char*>(data);
  for (size_t done = 0; done < size;) {
    const ssize_t sent = send(fd, bytes + done, size - done, MSG_NOSIGNAL);
    Check(sent > 0, "send");
    done += static_cast<size_t>(sent);
  }
}

void ReceiveAll(int fd, void* data, size_t size) {
  if (size > 0) {
    const ssize_t got = recv(fd, data, size, MSG_WAITALL);
    errno = got >= 0 ? ECONNRESET : errno;
    Check(got == static_cast<ssize_t>(size), "recv");
  }
}

// What is asked for: `target`, by a handshake of its own with `socks` or without.
struct Way {
  sockaddr_in target = {};
  std::optional<sockaddr_in> socks;
  bool non_blocking = false;
};

// RFC 1928 without authentication, the address as it is.
void Handshake(int fd, const sockaddr_in& target) {
  SendAll(fd, "\x05\x01\x00", 3);
  std::array<unsigned char, 10> answer = {};
  ReceiveAll(fd, answer.data(), 2);
  std::array<unsigned char, 10> request = {5, 1, 0, 1};
  memcpy(request.data() + 4, &target.sin_addr, 4);
  memcpy(request.data() + 8, &target.sin_port, 2);
  SendAll(fd, request.data(), request.size());
  ReceiveAll(fd, answer.data(), answer.size());
  errno = ECONNREFUSED;
  Check(answer[1] == 0, "the proxy's answer");
}

UniqueFd Start(const Way& way) {
  UniqueFd fd = Socket(SOCK_STREAM | (way.non_blocking ? SOCK_NONBLOCK : 0));
  const sockaddr_in& to = way.socks ? *way.socks : way.target;
  Check(
      connect(fd.get(), Generic(to), sizeof to) == 0 || (way.non_blocking && errno == EINPROGRESS),
      "connect");
  return fd;
}

// Waits for a non-blocking connect and makes the socket a blocking one.
void Finish(const Way& way, int fd) {
  if (way.non_blocking) {
    pollfd ready = {fd, POLLOUT, 0};
    errno = ETIMEDOUT;
    Check(poll(&ready, 1, kAnswerMs) == 1, "poll");
    socklen_t length = sizeof errno;
    Check(getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno, &length) == 0 && errno == 0, "SO_ERROR");
    const int blocking = 0;
    Check(ioctl(fd, FIONBIO, &blocking) == 0, "FIONBIO");
  }
  if (way.socks) {
    Handshake(fd, way.target);
  }
}

UniqueFd Connect(const Way& way) {
  UniqueFd fd = Start(way);
  Finish(way, fd.get());
  return fd;
}

// One byte from the server: the connection is there.
void AskForOne(int fd) {
  const uint64_t size = 1;
  char byte = 0;
  SendAll(fd, &size, sizeof size);
  ReceiveAll(fd, &byte, 1);
}

// No TIME_WAIT: ports do not run out.
void Reset(UniqueFd fd) {
  const linger now = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

class Stopwatch {
 public:
  [[nodiscard]] double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double Bulk(const Way& way, uint64_t bytes) {
  const UniqueFd fd = Connect(way);
  std::vector<char> buffer(kBuffer);
  const Stopwatch watch;
  SendAll(fd.get(), &bytes, sizeof bytes);
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got = recv(fd.get(), buffer.data(), buffer.size(), 0);
    Check(got > 0, "recv");
    done += static_cast<uint64_t>(got);
  }
  return static_cast<double>(bytes) / watch.Seconds();
}

double Connects(const Way& way, size_t count) {
  const Stopwatch watch;
  for (size_t i = 0; i < count; ++i) {
    UniqueFd fd = Connect(way);
    AskForOne(fd.get());
    Reset(std::move(fd));
  }
  return static_cast<double>(count) / watch.Seconds();
}

// All of them under way at once, by one thread.
double Parallel(Way way, size_t count) {
  way.non_blocking = true;
  const Stopwatch watch;
  std::vector<UniqueFd> fds;
  fds.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    fds.push_back(Start(way));
  }
  for (const UniqueFd& fd : fds) {
    Finish(way, fd.get());
    const uint64_t size = 1;
    SendAll(fd.get(), &size, sizeof size);
  }
  for (const UniqueFd& fd : fds) {
    char byte = 0;
    ReceiveAll(fd.get(), &byte, 1);
  }
  const double seconds = watch.Seconds();
  for (UniqueFd& fd : fds) {
    Reset(std::move(fd));
  }
  return static_cast<double>(count) / seconds;
}

// A query for the A record of "nI.bench.test".
std::string Query(size_t i) {
  const std::string label = fmt::format("n{}", i);
  std::string query = {
      static_cast<char>(i >> 8U),     static_cast<char>(i), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0,
      static_cast<char>(label.size())};
  query += label + std::string(
                       "\x05"
                       "bench\x04"
                       "test\0\0\1\0\1",
                       16);
  return query;
}

// One socket, one query at a time, `names` different ones.
double Resolve(const sockaddr_in& server, size_t count, size_t names) {
  const UniqueFd fd = Socket(SOCK_DGRAM);
  Check(connect(fd.get(), Generic(server), sizeof server) == 0, "connect");
  std::array<char, 512> answer = {};
  const Stopwatch watch;
  for (size_t i = 0; i < count; ++i) {
    const std::string query = Query(i % names);
    SendAll(fd.get(), query.data(), query.size());
    pollfd ready = {fd.get(), POLLIN, 0};
    errno = ETIMEDOUT;
    Check(poll(&ready, 1, kAnswerMs) == 1, "poll");
    const ssize_t got = recv(fd.get(), answer.data(), answer.size(), 0);
    errno = EBADMSG;
    Check(got >= static_cast<ssize_t>(query.size()) && memcmp(answer.data(), query.data(), 2) == 0,
          "the answer");
  }
  return static_cast<double>(count) / watch.Seconds();
}

void ServeBytes(UniqueFd client) {
  const int fd = client.get();
  uint64_t size = 0;
  if (recv(fd, &size, sizeof size, MSG_WAITALL) != sizeof size) {
    return;
  }
  const std::vector<char> buffer(std::min<uint64_t>(size, kBuffer));
  while (size > 0) {
    const ssize_t sent = send(fd, buffer.data(), std::min<uint64_t>(size, kBuffer), MSG_NOSIGNAL);
    if (sent <= 0) {
      return;
    }
    size -= static_cast<uint64_t>(sent);
  }
  (void)recv(fd, &size, 1, 0);  // until the client has gone
}

void AnswerQueries(int fd) {
  std::array<char, 512> query = {};
  for (;;) {
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    const ssize_t got =
        recvfrom(fd, query.data(), query.size(), 0, reinterpret_cast<sockaddr*>(&peer), &length);
    if (got > 2) {
      query[2] = static_cast<char>(query[2] | 0x80);
      (void)sendto(fd, query.data(), static_cast<size_t>(got), 0, Generic(peer), length);
    }
  }
}

UniqueFd Bound(int type, const sockaddr_in& address) {
  UniqueFd fd = Socket(type);
  const int on = 1;
  Check(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0, "SO_REUSEADDR");
  Check(bind(fd.get(), Generic(address), sizeof address) == 0, "bind");
  return fd;
}

// Until it is killed.
[[noreturn]] void Serve(const sockaddr_in& address, void (*serve_one)(UniqueFd client)) {
  const UniqueFd datagrams = Bound(SOCK_DGRAM, address);
  const UniqueFd listener = Bound(SOCK_STREAM, address);
  Check(listen(listener.get(), SOMAXCONN) == 0, "listen");
  std::thread(AnswerQueries, datagrams.get()).detach();
  fmt::print("ready\n");
  Check(fflush(stdout) == 0, "stdout");
  for (;;) {
    UniqueFd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.valid()) {
      std::thread(serve_one, std::move(client)).detach();
    }
  }
}

}  // namespace
}  // namespace oakum::bench

int main(int argc, char** argv) {
  using namespace oakum::bench;  // NOLINT(google-build-using-namespace)
  CLI::App app("Load for measuring ways through a proxy");
  app.require_subcommand(1);
  std::string host;
  std::string socks;
  uint16_t port = 0;
  bool non_blocking = false;
  uint64_t bytes = 1U << 30U;
  size_t count = 1000;
  size_t names = 100;
  for (const char* const name : {"serve", "proxy", "bulk", "connects", "parallel", "resolve"}) {
    CLI::App* const command = app.add_subcommand(name);
    command->add_option("address", host)->required();
    command->add_option("port", port)->required();
    command->add_option("--socks", socks, "ADDRESS:PORT of a proxy that it speaks to itself");
    command->add_flag("--non-blocking", non_blocking);
    command->add_option("--bytes", bytes);
    command->add_option("--count", count);
    command->add_option("--names", names)->check(CLI::PositiveNumber);
  }
  CLI11_PARSE(app, argc, argv);
  const std::string command = app.get_subcommands().front()->get_name();
  Way way = {Address(host, port), std::nullopt, non_blocking};
  if (const size_t colon = socks.find(':'); colon != std::string::npos) {
    way.socks = Address(socks.substr(0, colon),
                        static_cast<uint16_t>(strtoul(socks.c_str() + colon + 1, nullptr, 10)));
  }
  if (command == "serve") {
    Serve(way.target, ServeBytes);
  }
  if (command == "proxy") {
    Serve(way.target, ServeSocks);
  }
  const double figure = command == "bulk"       ? Bulk(way, bytes)
                        : command == "connects" ? Connects(way, count)
                        : command == "parallel" ? Parallel(way, count)
                                                : Resolve(way.target, count, names);
  fmt::print("{}\n", figure);
  return 0;
}
