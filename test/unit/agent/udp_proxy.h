// A SOCKS5 proxy for datagrams (RFC 1928 section 7) whose destinations are an echo: each says what
// it was asked for and by what name.
#ifndef OAKUM_TEST_UNIT_AGENT_UDP_PROXY_H_
#define OAKUM_TEST_UNIT_AGENT_UDP_PROXY_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "agent/udp/socks_datagram.h"
#include "base/unique_fd.h"

namespace oakum::agent {

class UdpProxy {
 public:
  struct Behaviour {
    bool refuse = false;    // "command not supported"
    int delay = 0;          // milliseconds before the reply to UDP ASSOCIATE
    int hang_up_after = 0;  // datagrams: then the control connections end, once
    bool wildcard = true;   // BND.ADDR is 0.0.0.0: the proxy's own address
  };

  UdpProxy() : UdpProxy(Behaviour{}) {}
  explicit UdpProxy(Behaviour behaviour)
      : behaviour_(std::move(behaviour)),
        stop_(eventfd(0, EFD_CLOEXEC)),
        listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        relay_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    port_ = Bind(listener_.get());
    relay_port_ = Bind(relay_.get());
    (void)listen(listener_.get(), 64);
    thread_ = std::thread([this] { Loop(); });
  }
  ~UdpProxy() {
    const uint64_t one = 1;
    (void)!write(stop_.get(), &one, sizeof one);
    thread_.join();
  }
  UdpProxy(const UdpProxy&) = delete;
  UdpProxy& operator=(const UdpProxy&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] int associations() const { return associations_; }
  [[nodiscard]] int datagrams() const { return datagrams_; }

 private:
  static uint16_t Bind(int fd) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    (void)bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    (void)getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    return ntohs(address.sin_port);
  }

  void Loop() {
    std::vector<UniqueFd> controls;
    for (;;) {
      std::vector<pollfd> ready = {
          {stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}, {relay_.get(), POLLIN, 0}};
      for (const UniqueFd& control : controls) {
        ready.push_back({control.get(), POLLIN, 0});
      }
      (void)poll(ready.data(), ready.size(), -1);
      if (ready[0].revents != 0) {
        return;
      }
      for (size_t i = ready.size(); i-- > 3;) {
        if (ready[i].revents != 0 && !Talk(controls[i - 3].get())) {
          controls.erase(controls.begin() + static_cast<std::ptrdiff_t>(i - 3));
        }
      }
      if (ready[1].revents != 0) {
        controls.emplace_back(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      }
      if (ready[2].revents != 0) {
        Echo();
        if (datagrams_ == behaviour_.hang_up_after) {
          controls.clear();
        }
      }
    }
  }

  bool Talk(int control) {
    char bytes[512];
    const ssize_t got = recv(control, bytes, sizeof bytes, 0);
    if (got <= 0) {
      return false;
    }
    if (got == 3) {  // one method
      return send(control, "\x05\x00", 2, MSG_NOSIGNAL) == 2;
    }
    usleep(static_cast<useconds_t>(behaviour_.delay) * 1000);
    std::string reply("\x05\x00\x00\x01", 4);
    if (behaviour_.refuse || bytes[1] != 3) {
      reply[1] = 7;
    } else {
      ++associations_;
    }
    reply += behaviour_.wildcard ? std::string(4, '\0') : std::string("\x7f\x00\x00\x01", 4);
    reply += static_cast<char>(relay_port_ >> 8);
    reply += static_cast<char>(relay_port_ & 0xff);
    return send(control, reply.data(), reply.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(reply.size()) &&
           !behaviour_.refuse;
  }

  void Echo() {
    char bytes[65536];
    sockaddr_in from = {};
    socklen_t length = sizeof from;
    const ssize_t got =
        recvfrom(relay_.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &length);
    const auto datagram =
        got > 0 ? UnwrapDatagram({bytes, static_cast<size_t>(got)}) : std::nullopt;
    if (!datagram) {
      return;
    }
    ++datagrams_;
    ProxyTarget source = datagram->source;
    const std::string text = (source.name.empty() ? source.address.ip.ToString() : source.name) +
                             ":" + std::to_string(source.address.port) + " " +
                             std::string(datagram->data);
    if (!source.name.empty()) {
      source.name.clear();
      source.address.ip = policy::IpAddress::FromV4({203, 0, 113, 7});
    }
    if (datagram->data == "stranger") {
      source.address.ip = policy::IpAddress::FromV4({203, 0, 113, 8});
    }
    const std::string out = WrapDatagram(source, text);
    (void)sendto(relay_.get(), out.data(), out.size(), 0, reinterpret_cast<sockaddr*>(&from),
                 length);
  }

  const Behaviour behaviour_;
  const UniqueFd stop_;
  const UniqueFd listener_;
  const UniqueFd relay_;
  uint16_t port_ = 0;
  uint16_t relay_port_ = 0;
  std::atomic<int> associations_{0};
  std::atomic<int> datagrams_{0};
  std::thread thread_;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_UDP_PROXY_H_
