// A resolver on a loop that the test runs, and servers on loopback that do what the test says.
#ifndef OAKUM_TEST_UNIT_AGENT_DNS_RESOLVER_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_DNS_RESOLVER_TESTING_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/dns/resolver.h"
#include "agent/proxy/tls_stream.h"
#include "base/unique_fd.h"
#include "test/unit/agent/dns_testing.h"

namespace oakum::agent {

inline constexpr std::chrono::seconds kBound{20};  // for whatever a loaded machine needs

inline bool IsReadable(int fd) {
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&wait, 1, 0) == 1;
}

// A socket at 127.0.0.1 with a port of the kernel's choice.
class LoopbackSocket {
 public:
  explicit LoopbackSocket(int type) : fd_(socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    if (!fd_) {
      ADD_FAILURE() << "socket: " << errno;
      return;
    }
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    endpoint_ = {.ip = Ip("127.0.0.1"), .port = ntohs(address.sin_port)};
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd_.get(), 16), 0);
    }
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const policy::Endpoint& endpoint() const { return endpoint_; }

 private:
  UniqueFd fd_;
  policy::Endpoint endpoint_;
};

// A query that a UDP server got, with the address to answer to.
struct Received {
  std::string query;
  sockaddr_in from = {};
};

inline void SendTo(int socket_fd, const sockaddr_in& to, std::string_view bytes) {
  EXPECT_EQ(sendto(socket_fd, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                   sizeof to),
            static_cast<ssize_t>(bytes.size()));
}

inline std::string Framed(std::string_view message) {
  return Bytes16(static_cast<unsigned>(message.size())) + std::string(message);
}

// A dial that the test completes.
struct FakeDial {
  DialRequest request;
  std::function<void(DialResult)> done;
  bool given_up = false;
};

class ResolverTest : public ::testing::Test {
 protected:
  ResolverTest() { Restart(); }

  void Restart() {
    resolver_.reset();
    Resolver::Options options;
    options.loop = loop_.get();
    options.upstreams = &upstreams_;
    options.names = &names_;
    options.dial = [this](EventLoop&, Upstreams&, DialRequest request,
                          std::function<void(DialResult)> done) {
      return StartFake(std::move(request), std::move(done));
    };
    options.credentials = [](const policy::Proxy&, const ProxyTarget& target, pid_t tgid,
                             uint64_t) -> std::optional<Credentials> {
      return Credentials{.user = "u", .password = target.name + std::to_string(tgid)};
    };
    options.take_slot = take_slot_;
    options.resolv_conf = resolv_conf_;
    options.patience = patience_;
    resolver_ = std::make_unique<Resolver>(std::move(options));
  }

  void Use(policy::DnsRule rule, policy::Resolve resolve = policy::Resolve::kSynthetic) {
    settings_.rule = rule;
    settings_.resolve = resolve;
    settings_.proxy = &proxy_;
    context_.settings = &settings_;
    context_.own_network = true;
    context_.make_socket = [this](int domain, int type) {
      ++sockets_made_;
      return UniqueFd(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    };
  }

  // Runs the loop until `condition`; false when that does not come about.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& condition) {
    const auto end = EventLoop::Clock::now() + kBound;
    while (!condition()) {
      if (EventLoop::Clock::now() > end || !loop_->RunOnce(std::chrono::milliseconds(5))) {
        return false;
      }
    }
    return true;
  }

  // Starts a query; its reply is appended to replies_.
  void Ask(std::string_view query, DnsTransport transport = DnsTransport::kUdp) {
    resolver_->Answer(query, transport, context_,
                      [this](DnsReply reply) { replies_.push_back(std::move(reply)); });
  }
  [[nodiscard]] bool AwaitReplies(size_t count) {
    return RunUntil([&] { return replies_.size() >= count; });
  }

  [[nodiscard]] Received ReceiveOn(int server_fd) {
    EXPECT_TRUE(RunUntil([&] { return IsReadable(server_fd); }));
    Received received;
    received.query.resize(dns::kMaxMessage);
    socklen_t size = sizeof received.from;
    const ssize_t got = recvfrom(server_fd, received.query.data(), received.query.size(),
                                 MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&received.from), &size);
    received.query.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return received;
  }

  [[nodiscard]] UniqueFd AcceptOn(const LoopbackSocket& server) {
    EXPECT_TRUE(RunUntil([&] { return IsReadable(server.fd()); }));
    return UniqueFd(accept4(server.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  }

  // One message of a stream; empty at its end.
  [[nodiscard]] std::string ReadMessage(int stream_fd) {
    const std::string head = ReadExactly(stream_fd, 2);
    return head.size() < 2 ? "" : ReadExactly(stream_fd, dns::ReadId(head));
  }

  [[nodiscard]] std::string ReadExactly(int stream_fd, size_t size) {
    std::string bytes;
    while (bytes.size() < size) {
      EXPECT_TRUE(RunUntil([&] { return IsReadable(stream_fd); }));
      std::string part(size - bytes.size(), '\0');
      const ssize_t got = recv(stream_fd, part.data(), part.size(), MSG_DONTWAIT);
      if (got <= 0) {
        break;
      }
      bytes.append(part.data(), static_cast<size_t>(got));
    }
    return bytes;
  }

  static void WriteBytes(int stream_fd, std::string_view bytes) {
    EXPECT_EQ(send(stream_fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  [[nodiscard]] dns::Reply Reply(size_t at) {
    return dns::ReadReply(replies_.at(at).message).value_or(dns::Reply());
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::Create().value();
  Upstreams upstreams_;
  Names names_;
  ResolvConf resolv_conf_ = ParseResolvConf("nameserver 192.0.2.53\n");
  EventLoop::Clock::duration patience_ = Resolver::kPatience;
  std::function<std::optional<RelaySlot>()> take_slot_;
  policy::Proxy proxy_;
  policy::DnsSettings settings_;
  DnsContext context_;
  size_t sockets_made_ = 0;
  std::vector<DnsReply> replies_;
  std::list<FakeDial> dials_;
  std::unique_ptr<Resolver> resolver_;

 private:
  std::unique_ptr<Dial> StartFake(DialRequest request, std::function<void(DialResult)> done) {
    class Handle final : public Dial {
     public:
      explicit Handle(FakeDial& dial) : dial_(dial) {}
      ~Handle() override { dial_.given_up = true; }
      Handle(const Handle&) = delete;
      Handle& operator=(const Handle&) = delete;

     private:
      FakeDial& dial_;
    };
    dials_.push_back({.request = std::move(request), .done = std::move(done)});
    return std::make_unique<Handle>(dials_.back());
  }
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_DNS_RESOLVER_TESTING_H_
