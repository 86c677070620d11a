// A stand-in for the sessions.
#ifndef OAKUM_TEST_UNIT_AGENT_FAKE_SESSIONS_H_
#define OAKUM_TEST_UNIT_AGENT_FAKE_SESSIONS_H_

#include <memory>
#include <utility>
#include <vector>

#include "agent/session/session_manager.h"

namespace oakum::agent::testing {

// What the test looks at, and decides.
struct FakeSessionsState {
  std::vector<oci::ContainerProcessState> attached;
  std::vector<KeptItem> adopted;
  std::vector<std::shared_ptr<const policy::PolicySet>> policies;
  std::vector<SessionInfo> sessions;
  SessionTotals totals;
  EventSink* events = nullptr;
};

class FakeSessions : public SessionManager {
 public:
  explicit FakeSessions(FakeSessionsState& state) : state_(state) {}

  Expected<void> Attach(const oci::ContainerProcessState& state, UniqueFd) override {
    state_.attached.push_back(state);
    return {};
  }
  Expected<size_t> Adopt(std::vector<KeptItem> items) override {
    state_.adopted = std::move(items);
    return state_.adopted.size();
  }
  void SetPolicies(std::shared_ptr<const policy::PolicySet> policies) override {
    state_.policies.push_back(std::move(policies));
  }
  [[nodiscard]] std::vector<SessionInfo> List() const override { return state_.sessions; }
  [[nodiscard]] SessionTotals Totals() const override { return state_.totals; }

 private:
  FakeSessionsState& state_;
};

}  // namespace oakum::agent::testing

#endif  // OAKUM_TEST_UNIT_AGENT_FAKE_SESSIONS_H_
