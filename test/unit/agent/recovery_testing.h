// One agent after another with what the one before has kept.
#ifndef OAKUM_TEST_UNIT_AGENT_RECOVERY_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_RECOVERY_TESTING_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/session/session_keeping.h"
#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {

// Outlives the agents of a test.
class MemoryStore final : public FdStore {
 public:
  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    const std::lock_guard lock(mutex_);
    for (const int fd : fds) {
      items_[name].emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    }
    return {};
  }
  void Forget(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    items_.erase(name);
  }
  bool KeepsAtOnce() const override { return true; }
  std::vector<KeptItem> Items() const {
    const std::lock_guard lock(mutex_);
    std::vector<KeptItem> items;
    for (const auto& [name, fds] : items_) {
      items.push_back({name, {}});
      for (const UniqueFd& fd : fds) {
        items.back().fds.emplace_back(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
      }
    }
    return items;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<UniqueFd>> items_;
};

class RecoveryTest : public ::testing::Test {
 protected:
  RecoveryTest() {
    const auto parsed = policy::PolicySet::Parse(
        Policies("enforce", R"("outgoing": {"default": "deny", "allow": ["127.0.0.1"]},
                               "incoming": {"default": "allow", "deny": ["127.0.0.9"]},
                               "unix": {"default": "allow", "deny": ["/nowhere"]})"),
        "test.json");
    EXPECT_TRUE(parsed.has_value());
    policies_ = *parsed;
  }

  std::unique_ptr<SessionManager> NewAgent() {
    SessionOptions options;
    options.store = &store_;
    auto manager = SessionManager::Create(options, policies_, sink_, log_);
    EXPECT_TRUE(manager.has_value());
    return std::move(*manager);
  }
  std::unique_ptr<SessionManager> NextAgent() {
    auto manager = NewAgent();
    const auto adopted = manager->Adopt(store_.Items());
    EXPECT_TRUE(adopted.has_value()) << adopted.error().ToString();
    return manager;
  }

  void Start(const std::function<int()>& body) {
    process_.emplace(policy::Plan(*policies_->Find("p")), [&](int) { return body(); });
  }
  oci::ContainerProcessState State() const {
    oci::ContainerProcessState state;
    state.id = "guarded";
    state.init_pid = process_->pid();
    state.metadata = policy::EncodeListenerMetadata({"p", {}});
    return state;
  }

  // An agent that receives the program's first call, does what `act` does with it, and is no more.
  // `act` is given the call's slot and the socket that the call is about.
  void Die(const std::function<void(JournalSlot&, int socket_fd)>& act) {
    const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process_->pid(), 0)));
    auto notify = NotifyFd::Create(process_->TakeListener());
    ASSERT_TRUE(notify.has_value());
    KeptState state;
    state.container = State();
    state.policy = "p";
    state.attached_ns = 1'000'000'000;
    auto kept = MakeKept(std::move(state), std::nullopt);
    ASSERT_TRUE(kept && HandOver(store_, *kept, notify->fd(), pidfd.get(), -1, -1));
    ASSERT_TRUE(kept.has_value()) << kept.error().ToString();
    process_->Go();
    JournalSlot* slot = kept->journal.Take();
    Notification call;
    ASSERT_EQ(notify->Receive(&slot->notification, call), 0);
    const UniqueFd socket(
        static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), static_cast<int>(call.args[0]), 0)));
    slot->socket = static_cast<int>(call.args[0]);
    act(*slot, socket.get());
  }

  Log log_{"test", LogLevel::kError};
  RecordingSink sink_;
  std::shared_ptr<const policy::PolicySet> policies_;
  MemoryStore store_;
  std::optional<GuardedProcess> process_;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_RECOVERY_TESTING_H_
