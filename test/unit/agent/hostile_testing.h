// What the tests of hostile programs share.
#ifndef OAKUM_TEST_UNIT_AGENT_HOSTILE_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_HOSTILE_TESTING_H_

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {

inline std::string AllowOnly(uint16_t port, std::string_view more = "") {
  return Policies("enforce", fmt::format(R"("outgoing": {{"default": "deny",
      "allow": ["127.0.0.1:{}"{}]}})",
                                         port, more));
}

inline int RunUnguarded(const std::function<int(int)>& body) {
  GuardedProcess process({}, body);
  process.Go();
  return process.Wait();
}

// What `body` writes, in a child with that guard, or with none (null).
inline std::string OutputOf(Guarded* guard, const std::function<int(int)>& body) {
  std::string output;
  if (guard != nullptr) {
    EXPECT_EQ(guard->Run(body, &output), 0);
  } else {
    GuardedProcess process({}, body);
    process.Go();
    EXPECT_EQ(process.Wait(&output), 0);
  }
  return output;
}

// One way of the hostile program.
template <typename... Args>
std::function<int(int)> Hostile(const char* way, Args... args) {
  // Made here: the child has been forked from a program with threads, and must not allocate.
  struct Words {
    std::vector<std::string> words;
    std::vector<char*> argv;
  };
  const auto made = std::make_shared<Words>();
  made->words = {HOSTILE_PROGRAM, way, std::to_string(args)...};
  for (std::string& word : made->words) {
    made->argv.push_back(word.data());
  }
  made->argv.push_back(nullptr);
  return [made](int) {
    execv(made->argv[0], made->argv.data());
    return 100;
  };
}

// Datagrams that wait in the server's queue.
inline int Drain(const Server& server) {
  int count = 0;
  char buffer[64];
  while (recv(server.fd(), buffer, sizeof buffer, MSG_DONTWAIT) >= 0) {
    ++count;
  }
  return count;
}

// A datagram socket on one address of the loopback network, in the test process; port 0: any.
class DatagramServer {
 public:
  explicit DatagramServer(const char* address, uint16_t port = 0)
      : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in bound = Loopback(port);
    EXPECT_EQ(inet_pton(AF_INET, address, &bound.sin_addr), 1);
    socklen_t length = sizeof bound;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&bound), sizeof bound), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&bound), &length), 0);
    port_ = ntohs(bound.sin_port);
  }
  uint16_t port() const { return port_; }
  // Datagrams that wait.
  int Drain() const {
    int count = 0;
    char buffer[64];
    while (recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT) >= 0) {
      ++count;
    }
    return count;
  }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

// A listener whose queue is full, so that connecting to it hangs.
class FullServer {
 public:
  FullServer() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd_.get(), 0), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    for (UniqueFd& filler : fillers_) {
      filler.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      (void)connect(filler.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    usleep(20'000);
  }
  uint16_t port() const { return port_; }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
  std::array<UniqueFd, 4> fillers_;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_HOSTILE_TESTING_H_
