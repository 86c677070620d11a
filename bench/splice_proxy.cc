#include "bench/splice_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <thread>
#include <utility>

namespace oakum::bench {

namespace {

constexpr size_t kPipe = size_t{1} << 20U;

bool Receive(int fd, void* data, size_t size) {
  return recv(fd, data, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

// The destination of a request (RFC 1928 section 4): an IPv4 address, also one that is written as a
// name, as torsocks does it.
std::optional<sockaddr_in> ReadRequest(int fd) {
  std::array<unsigned char, 4> head = {};
  sockaddr_in target = {};
  target.sin_family = AF_INET;
  if (!Receive(fd, head.data(), head.size())) {
    return std::nullopt;
  }
  if (head[3] == 1) {
    if (!Receive(fd, &target.sin_addr, 4)) {
      return std::nullopt;
    }
  } else {
    unsigned char length = 0;
    std::array<char, 256> name = {};
    if (head[3] != 3 || !Receive(fd, &length, 1) || !Receive(fd, name.data(), length) ||
        inet_pton(AF_INET, name.data(), &target.sin_addr) != 1) {
      return std::nullopt;
    }
  }
  return Receive(fd, &target.sin_port, 2) ? std::optional(target) : std::nullopt;
}

// RFC 1928 sections 3, 4 and 6. The connection to where the client wants to go, or nothing.
UniqueFd Handshake(int client_fd) {
  std::array<unsigned char, 2> hello = {};
  std::array<unsigned char, 255> methods = {};
  if (!Receive(client_fd, hello.data(), 2) || !Receive(client_fd, methods.data(), hello[1]) ||
      send(client_fd, "\x05\x00", 2, MSG_NOSIGNAL) != 2) {
    return UniqueFd();
  }
  const auto target = ReadRequest(client_fd);
  if (!target) {
    return UniqueFd();
  }
  UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool connected =
      server.valid() &&
      connect(server.get(), reinterpret_cast<const sockaddr*>(&*target), sizeof *target) == 0;
  const std::array<unsigned char, 10> answer = {5, static_cast<unsigned char>(connected ? 0 : 5), 0,
                                                1};
  const bool sent = send(client_fd, answer.data(), answer.size(), MSG_NOSIGNAL) == 10;
  return sent && connected ? std::move(server) : UniqueFd();
}

void Move(int from_fd, int to_fd) {
  std::array<int, 2> ends = {};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return;
  }
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  (void)fcntl(in.get(), F_SETPIPE_SZ, kPipe);
  for (;;) {
    ssize_t moved = splice(from_fd, nullptr, in.get(), nullptr, kPipe, SPLICE_F_MOVE);
    if (moved <= 0) {
      break;
    }
    while (moved > 0) {
      const ssize_t sent =
          splice(out.get(), nullptr, to_fd, nullptr, static_cast<size_t>(moved), SPLICE_F_MOVE);
      if (sent <= 0) {
        shutdown(from_fd, SHUT_RD);
        return;
      }
      moved -= sent;
    }
  }
  shutdown(to_fd, SHUT_WR);
}

}  // namespace

void ServeSocks(UniqueFd client) {
  const UniqueFd server = Handshake(client.get());
  if (server.valid()) {
    std::thread back(Move, server.get(), client.get());
    Move(client.get(), server.get());
    back.join();
  }
}

}  // namespace oakum::bench
