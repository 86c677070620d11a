// A guarded child together with the sessions that guard it, and servers for it to reach.
#ifndef OAKUM_TEST_UNIT_AGENT_GUARDED_SESSION_H_
#define OAKUM_TEST_UNIT_AGENT_GUARDED_SESSION_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "agent/session/session_manager.h"
#include "policy/plan.h"
#include "policy/policy_set.h"
#include "test/unit/agent/guarded_process.h"

namespace oakum::agent {

class RecordingSink final : public EventSink {
 public:
  void Push(Event&& event) override {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  std::vector<Event> events() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Event> events_;
};

inline std::string Policies(std::string_view mode, std::string_view rest) {
  return fmt::format(
      R"({{"version": 1, "policies": {{"p": {{"mode": "{}", {}}}}},
          "containers": [{{"match": {{}}, "policy": "p"}}]}})",
      mode, rest);
}

struct Options {
  bool io_uring = true;
  bool sync_wake_up = true;
  bool thread_pidfds = true;
  std::chrono::milliseconds quiet_after = SessionOptions().quiet_after;
};

// Runs `body` in a child guarded by policy "p" of the file `text`.
class Guarded {
 public:
  explicit Guarded(const std::string& text, Options options = {}) : log_("test", LogLevel::kError) {
    auto policies = policy::PolicySet::Parse(text, "test.json");
    EXPECT_TRUE(policies.has_value()) << policies.error().ToString();
    policies_ = *policies;
    auto manager = SessionManager::Create({.use_io_uring = options.io_uring,
                                           .use_sync_wake_up = options.sync_wake_up,
                                           .use_thread_pidfds = options.thread_pidfds,
                                           .quiet_after = options.quiet_after},
                                          policies_, sink_, log_);
    EXPECT_TRUE(manager.has_value());
    manager_ = std::move(*manager);
  }

  int Run(const std::function<int(int)>& body, std::string* output = nullptr,
          bool wait_killable = false) {
    GuardedProcess process(Plan(), body, wait_killable);
    Attach(process);
    process.Go();
    return process.Wait(output);
  }

  oci::SeccompPlan Plan(const std::string& policy = "p") const {
    return policy::Plan(*policies_->Find(policy));
  }
  void Attach(GuardedProcess& process, const std::string& container = "guarded",
              const std::string& policy = "p",
              std::optional<policy::FilterRecord> filter = std::nullopt) {
    oci::ContainerProcessState state;
    state.id = container;
    state.init_pid = process.pid();
    state.metadata = policy::EncodeListenerMetadata({policy, {}, std::move(filter)});
    const auto attached = manager_->Attach(state, process.TakeListener());
    EXPECT_TRUE(attached.has_value()) << attached.error().ToString();
  }

  SessionManager& manager() { return *manager_; }
  const RecordingSink& sink() const { return sink_; }

 private:
  Log log_;
  RecordingSink sink_;
  std::shared_ptr<const policy::PolicySet> policies_;
  std::unique_ptr<SessionManager> manager_;
};

// A listening TCP socket or a bound UDP one on 127.0.0.1, in the test process.
class Server {
 public:
  explicit Server(int type) : fd_(socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd_.get(), 16), 0);
    }
  }
  uint16_t port() const { return port_; }
  int fd() const { return fd_.get(); }
  // Whether something arrives within a moment.
  bool Reached() const {
    timeval limit = {0, 100'000};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char buffer[16];
    const int accepted = accept(fd_.get(), nullptr, nullptr);
    if (accepted >= 0) {
      close(accepted);
      return true;
    }
    return recv(fd_.get(), buffer, sizeof buffer, 0) >= 0;
  }

 private:
  UniqueFd fd_;
  uint16_t port_ = 0;
};

inline sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline int ConnectError(uint16_t port, int flags = 0) {
  const int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
  const sockaddr_in address = Loopback(port);
  const int error =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  close(fd);
  return error;
}

inline int SendError(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in address = Loopback(port);
  const int error =
      sendto(fd, "leak", 4, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 4
          ? 0
          : errno;
  close(fd);
  return error;
}

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_GUARDED_SESSION_H_
