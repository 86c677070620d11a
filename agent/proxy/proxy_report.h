// Tells the operator that a proxy did not carry what it should have.
#ifndef OAKUM_AGENT_PROXY_PROXY_REPORT_H_
#define OAKUM_AGENT_PROXY_PROXY_REPORT_H_

#include <memory>

#include "agent/events/event.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/dial.h"

namespace oakum::agent {

class SessionCore;
struct GuardedCall;

// What is known of a call when it is begun, for an event that may be due long after it is over.
// A value; the Carrier outlives it.
class ProxyReport {
 public:
  ProxyReport(SessionCore& core, const GuardedCall& call, const policy::InetRequest& request,
              const policy::Decision& decision);

  // A failure is always an event, and counted; the text never has credentials in it.
  void Failed(const ProxyFailure& failure) const;
  // What a program said to a proxy was not what it must say: `passed` when that was let be (audit).
  void Refused(const std::string& what, bool passed) const;

  [[nodiscard]] const Event& event() const { return event_; }
  [[nodiscard]] const std::weak_ptr<SessionCore>& session() const { return core_; }

 private:
  void Push(Event event) const;

  Carrier* carrier_;
  std::weak_ptr<SessionCore> core_;  // its container may have ended meanwhile
  Event event_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PROXY_REPORT_H_
