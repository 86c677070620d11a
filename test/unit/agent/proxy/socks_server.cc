#include "socks_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace oakum::agent {

SocksServer::SocksServer(Decide decide, Serve serve)
    : decide_(std::move(decide)),
      serve_(std::move(serve)),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  EXPECT_EQ(listen(listener_.get(), 1024), 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Accept(); });
}

SocksServer::~SocksServer() {
  shutdown(listener_.get(), SHUT_RDWR);  // wakes accept(2)
  thread_.join();
  for (std::thread& connection : connections_) {
    connection.join();
  }
}

std::vector<std::string> SocksServer::targets() const {
  const std::lock_guard lock(mutex_);
  return targets_;
}

std::vector<std::string> SocksServer::users() const {
  const std::lock_guard lock(mutex_);
  return users_;
}

void SocksServer::Accept() {
  for (;;) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      return;
    }
    ++accepted_;
    connections_.emplace_back([this, socket = std::move(fd)]() mutable {
      ProxySide side(std::move(socket));
      Handle(side);
    });
  }
}

void SocksServer::Handle(ProxySide& side) {
  const std::string greeting = side.Read(2);
  if (greeting.size() != 2 || greeting[0] != 5) {
    return;
  }
  const std::string methods = side.Read(static_cast<uint8_t>(greeting[1]));
  if (methods.find('\2') != std::string::npos) {
    side.Write({"\5\2", 2});
    const std::string head = side.Read(2);
    if (head.size() != 2) {
      return;
    }
    const std::string user = side.Read(static_cast<uint8_t>(head[1]));
    const std::string size = side.Read(1);
    const std::string password = side.Read(size.empty() ? 0 : static_cast<uint8_t>(size[0]));
    side.Write({"\1\0", 2});
    const std::lock_guard lock(mutex_);
    users_.push_back(user + ":" + password);
  } else {
    side.Write({"\5\0", 2});
  }
  const std::string request = side.Read(4);
  if (request.size() != 4) {
    return;
  }
  std::string host;
  if (request[3] == 3) {
    const std::string size = side.Read(1);
    host = side.Read(size.empty() ? 0 : static_cast<uint8_t>(size[0]));
  } else {
    const bool v4 = request[3] == 1;
    const std::string bytes = side.Read(v4 ? 4 : 16);
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof text);
    host = text;
  }
  const std::string port = side.Read(2);
  if (port.size() != 2) {
    return;
  }
  const std::string target = fmt::format(
      "{}:{}", host, static_cast<uint8_t>(port[0]) << 8 | static_cast<uint8_t>(port[1]));
  {
    const std::lock_guard lock(mutex_);
    targets_.push_back(target);
  }
  const int code = decide_(target);
  if (code == kClose) {
    return;
  }
  const char reply[10] = {5, static_cast<char>(code), 0, 1, 127, 0, 0, 1, 0, 1};
  side.Write({reply, sizeof reply});
  if (code == 0) {
    serve_(side);
  }
}

void Echo(ProxySide& side) {
  for (;;) {
    char buffer[65536];
    const ssize_t got = recv(side.fd(), buffer, sizeof buffer, 0);
    if (got <= 0) {
      return;
    }
    side.Write({buffer, static_cast<size_t>(got)});
  }
}

}  // namespace oakum::agent
