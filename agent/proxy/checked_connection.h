// A program's own connection to a proxy, past the check of what it says.
#ifndef OAKUM_AGENT_PROXY_CHECKED_CONNECTION_H_
#define OAKUM_AGENT_PROXY_CHECKED_CONNECTION_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "agent/proxy/carrier.h"
#include "agent/proxy/dial.h"
#include "agent/proxy/handshake_check.h"
#include "agent/proxy/proxy_report.h"
#include "agent/proxy/relay.h"
#include "agent/proxy/worker.h"
#include "base/unique_fd.h"
#include "policy/policy.h"

namespace oakum::agent {

struct CheckedRequest {
  UniqueFd near;  // connected to the container's socket
  std::shared_ptr<ContainerCarrier> container;
  std::shared_ptr<const policy::Policy> policy;  // has handshake() and proxy()
  RelaySlot slot;
  DialRequest dial;  // without target and credentials
  ProxyReport report;
  RelayOwner owner;
};

// Listens to what a program says to a proxy, and reports what enforce would have refused.
class HandshakeWatch {
 public:
  HandshakeWatch(std::shared_ptr<ContainerCarrier> container,
                 std::shared_ptr<const policy::Policy> policy, ProxyReport report)
      : container_(std::move(container)),
        policy_(std::move(policy)),
        report_(std::move(report)),
        check_(*policy_->handshake(), true) {}
  void Take(std::string_view bytes);

 private:
  const std::shared_ptr<ContainerCarrier> container_;
  const std::shared_ptr<const policy::Policy> policy_;
  const ProxyReport report_;
  HandshakeCheck check_;
};

// Speaks the proxy's part until the request is there, judges it, and only then has the agent ask
// the proxy for the same: nothing that the program has written reaches the proxy before. It is read
// where it arrives, so that it does not matter which call wrote it.
class CheckedConnection : public std::enable_shared_from_this<CheckedConnection> {
 public:
  // On the worker's thread; the worker keeps it.
  static void Start(Worker& worker, CheckedRequest request);
  CheckedConnection(Worker& worker, CheckedRequest request);
  ~CheckedConnection();
  CheckedConnection(const CheckedConnection&) = delete;
  CheckedConnection& operator=(const CheckedConnection&) = delete;

 private:
  enum class Phase : uint8_t { kChecking, kDialing, kClosing };

  void Watch();
  void Unwatch();
  void Readable();
  void Asked();
  void Dialed(DialResult result);
  void Refuse(const std::string& problem);
  // Sends all of it, or gives up: what a program has not read by now it does not want.
  [[nodiscard]] bool Say(const std::string& bytes);
  // Ends once the program has read what it was told, or soon.
  void Close();
  void Reset();
  void Leave();

  Worker& worker_;
  CheckedRequest request_;
  HandshakeCheck check_;
  Phase phase_ = Phase::kChecking;
  std::unique_ptr<Dial> dial_;
  bool watching_ = false;
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CHECKED_CONNECTION_H_
