#include "scripted_proxy.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>

namespace oakum::agent {

namespace {

constexpr timeval kPatience = {.tv_sec = 30, .tv_usec = 0};

uint16_t PortOf(int fd) {
  sockaddr_in address = {};
  socklen_t length = sizeof address;
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  return ntohs(address.sin_port);
}

UniqueFd BoundSocket() {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

policy::ProxyUrl Parse(const std::string& text) {
  auto url = policy::ParseProxyUrl(text);
  EXPECT_TRUE(url.has_value()) << url.error();
  return url.value_or(policy::ProxyUrl{});
}

}  // namespace

std::string ProxySide::Read(size_t size) {
  std::string out(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t got = recv(fd_.get(), out.data() + have, size - have, 0);
    if (got <= 0) {
      break;
    }
    have += static_cast<size_t>(got);
  }
  out.resize(have);
  return out;
}

std::string ProxySide::ReadUntil(std::string_view end) {
  std::string out;
  while (!out.ends_with(end)) {
    const std::string byte = Read(1);
    if (byte.empty()) {
      break;
    }
    out += byte;
  }
  return out;
}

void ProxySide::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put <= 0) {
      return;
    }
    bytes.remove_prefix(static_cast<size_t>(put));
  }
}

void ProxySide::AwaitEnd() {
  while (!Read(1).empty()) {
  }
}

void ProxySide::ShutdownWrite() { shutdown(fd_.get(), SHUT_WR); }

// connect(2): AF_UNSPEC ends a connection, and tcp_disconnect() does it with a RST.
void ProxySide::Abort() {
  sockaddr unspecified = {};
  unspecified.sa_family = AF_UNSPEC;
  EXPECT_EQ(connect(fd_.get(), &unspecified, sizeof unspecified), 0);
}

ScriptedProxy::ScriptedProxy(std::function<void(ProxySide&)> script)
    : script_(std::move(script)), listener_(BoundSocket()), port_(PortOf(listener_.get())) {
  EXPECT_EQ(listen(listener_.get(), 128), 0);
  thread_ = std::thread([this] { Serve(); });
}

ScriptedProxy::~ScriptedProxy() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    shutdown(listener_.get(), SHUT_RDWR);  // wakes accept(2)
    if (serving_fd_ >= 0) {
      shutdown(serving_fd_, SHUT_RDWR);
    }
  }
  thread_.join();
}

void ScriptedProxy::Serve() {
  for (;;) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      return;
    }
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    connections_.fetch_add(1);
    ProxySide side(std::move(fd));
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        return;
      }
      serving_fd_ = side.fd();
    }
    script_(side);
    const std::lock_guard lock(mutex_);
    serving_fd_ = -1;
  }
}

policy::ProxyUrl ScriptedProxy::Url(const std::string& scheme, const std::string& user) const {
  return Parse(scheme + "://" + (user.empty() ? "" : user + "@") +
               "127.0.0.1:" + std::to_string(port_));
}

policy::ProxyUrl DownUrl(const std::string& scheme, UniqueFd& keep) {
  keep = BoundSocket();  // bound but not listening: refused
  return Parse(scheme + "://127.0.0.1:" + std::to_string(PortOf(keep.get())));
}

}  // namespace oakum::agent
