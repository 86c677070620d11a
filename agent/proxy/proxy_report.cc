#include "agent/proxy/proxy_report.h"

#include <cerrno>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include "agent/caller/process_info.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

ProxyReport::ProxyReport(SessionCore& core, const GuardedCall& call,
                         const policy::InetRequest& request, const policy::Decision& decision)
    : carrier_(&core.container()->carrier()), core_(core.weak_from_this()) {
  event_.source_of = core.SourceOf(call);
  event_.operation = request.operation;
  event_.transport = request.transport;
  event_.destination = request.remote;
  event_.family = request.remote.ip.IsV4() ? Event::Family::kIpv4 : Event::Family::kIpv6;
  if (!request.names.empty()) {
    event_.domain = request.names.front();
  }
  event_.syscall = call.kind.name;
  // Perhaps not of the policy that holds now.
  const auto rule = std::make_shared<const std::string>(decision.rule);
  event_.rule = *rule;
  event_.rule_of = rule;
  event_.thread_id = call.notification.tid;
  event_.would = decision.verdict;
}

void ProxyReport::Push(Event event) const {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  event.time_ns = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  // Of the thread that called, if it is still there: it does not wait for us any more.
  event.process = ReadProcessInfo(event.thread_id, false);
  carrier_->events().Push(std::move(event));
}

void ProxyReport::Failed(const ProxyFailure& failure) const {
  if (const auto core = core_.lock(); core != nullptr) {
    core->CountProxyFailure();
  }
  Event event = event_;
  event.proxy_failure = true;
  event.verdict =
      event.would == policy::Verdict::kAllow ? EventVerdict::kAllow : EventVerdict::kRedirect;
  event.errno_value = failure.errno_value != 0 ? failure.errno_value : EIO;
  event.detail = failure.text;
  Push(std::move(event));
}

void ProxyReport::Refused(const std::string& what, bool passed) const {
  if (const auto core = core_.lock(); core != nullptr) {
    core->CountRefused();
  }
  Event event = event_;
  event.verdict = passed ? EventVerdict::kAudit : EventVerdict::kDeny;
  event.would = policy::Verdict::kDeny;
  event.leak = true;
  event.errno_value = passed ? 0 : ECONNRESET;
  event.rule = "handshake";
  event.detail = what;
  Push(std::move(event));
}

}  // namespace oakum::agent
