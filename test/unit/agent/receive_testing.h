// A guarded child whose sockets are carried without gates: what receives are compared on.
#ifndef OAKUM_TEST_UNIT_AGENT_RECEIVE_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_RECEIVE_TESTING_H_

#include <functional>
#include <memory>
#include <string>

#include "agent/session/reactor.h"
#include "agent/session/session.h"
#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {

inline constexpr uint64_t kNetns = 1;  // any number: nothing is made in it here

// A guarded child whose inherited sockets are carried, with the parts of a session for it that a
// test can reach.
class Receiving {
 public:
  Receiving()
      : log_("test", LogLevel::kError), carrier_(std::make_shared<Carrier>(sink_, log_, nullptr)) {
    auto policies = policy::PolicySet::Parse(
        R"({"version": 1, "proxies": {"x": {"url": "socks5h://127.0.0.1:1"}},
            "policies": {"p": {"mode": "enforce", "proxy": "x", "dns": "proxy",
                "outgoing": {"default": "redirect", "allow": ["127.0.0.0/8", "[::1]"]}}},
            "containers": [{"match": {}, "policy": "p"}]})",
        "test.json");
    EXPECT_TRUE(policies.has_value()) << policies.error().ToString();
    policies_ = *policies;
    auto reactor = Reactor::Create(true);
    EXPECT_TRUE(reactor.has_value());
    reactor_ = std::move(*reactor);
  }

  // `socket_fd`: the child's, made by the parent. `destination`: whom `gate` stands for.
  void Carry(int socket_fd) {
    parts()->datagrams->Carry(SocketCookie(socket_fd), kNetns, 1, nullptr);
  }
  void Stand(const policy::Endpoint& gate, const policy::Endpoint& destination) {
    parts()->datagrams->SetGate(kNetns, gate, destination);
  }

  int Run(const std::function<int(int)>& body, std::string* output) {
    GuardedProcess process(policy::Plan(*policies_->Find("p")), body);
    auto notify = NotifyFd::Create(process.TakeListener());
    if (!notify) {
      return -1;
    }
    auto source = std::make_shared<EventSource>();
    source->policy = std::shared_ptr<const policy::Policy>(policies_, policies_->Find("p"));
    auto core = std::make_shared<SessionCore>(1, std::move(*notify), source, process.pid(),
                                              UniqueFd(), parts(), sink_);
    auto session = Session::Start(core, *reactor_, {}, {.for_good = [] {}, .to_rest = [] {}});
    if (!session) {
      return -1;
    }
    process.Go();
    return process.Wait(output);
  }

 private:
  std::shared_ptr<ContainerParts> parts() {
    if (parts_ == nullptr) {
      parts_ = std::make_shared<ContainerParts>(0, std::make_shared<GuardedCgroups>(), carrier_);
    }
    return parts_;
  }

  Log log_;
  RecordingSink sink_;
  std::shared_ptr<const policy::PolicySet> policies_;
  std::shared_ptr<Carrier> carrier_;
  std::unique_ptr<Reactor> reactor_;
  std::shared_ptr<ContainerParts> parts_;
};

struct Bound {
  UniqueFd fd;
  sockaddr_storage address = {};
  socklen_t length = 0;

  [[nodiscard]] policy::Endpoint endpoint() const {
    SockaddrCopy copy;
    copy.storage = address;
    copy.length = length;
    return ReadEndpoint(copy);
  }
};

inline Bound BindLoopback(int domain) {
  Bound out;
  out.fd.Reset(socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  SockaddrCopy address =
      WriteEndpoint({domain == AF_INET ? policy::IpAddress::FromV4({127, 0, 0, 1})
                                       : policy::CanonicalDestination(policy::IpAddress()),
                     0},
                    domain);
  EXPECT_EQ(bind(out.fd.get(), address.get(), address.length), 0);
  out.length = sizeof out.address;
  getsockname(out.fd.get(), reinterpret_cast<sockaddr*>(&out.address), &out.length);
  return out;
}

// Another address that a gate may stand for: it differs in the last byte of the sockaddr's.
inline policy::Endpoint NextAddress(const policy::Endpoint& gate) {
  auto bytes = gate.ip.bytes();
  ++bytes[15];
  return {policy::IpAddress(bytes), gate.port};
}

// Hexadecimal text in which the translated sockaddr is the gate's again. `count` gets how often.
inline std::string WithoutTranslation(std::string text, const policy::Endpoint& gate, int domain,
                                      int& count) {
  const auto hex = [domain](const policy::Endpoint& endpoint) {
    const SockaddrCopy address = WriteEndpoint(endpoint, domain);
    // sockaddr_in without its padding; sockaddr_in6 without the scope.
    const size_t size = domain == AF_INET ? 8 : 24;
    std::string out;
    for (size_t i = 0; i < size; ++i) {
      out += fmt::format("{:02x}", reinterpret_cast<const unsigned char*>(&address.storage)[i]);
    }
    return out;
  };
  const std::string translated = hex(NextAddress(gate));
  const std::string original = hex(gate);
  count = 0;
  for (size_t at = text.find(translated); at != std::string::npos;
       at = text.find(translated, at + 1)) {
    text.replace(at, translated.size(), original);
    ++count;
  }
  return text;
}

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_RECEIVE_TESTING_H_
