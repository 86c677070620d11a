// One decided call as a value: what becomes a line of the event log.
#ifndef OAKUM_AGENT_EVENTS_EVENT_H_
#define OAKUM_AGENT_EVENTS_EVENT_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "policy/container.h"
#include "policy/filter_record.h"
#include "policy/policy.h"
#include "policy/request.h"

namespace oakum::agent {

// `oakum.verdict`.
enum class EventVerdict : uint8_t { kAllow, kAudit, kDeny, kRedirect, kKill };

// Who called. Text comes from the container: escaped by JSON where it is written.
struct ProcessInfo {
  pid_t pid = 0;             // thread group id in the agent's pid namespace
  std::string executable;    // target of /proc/PID/exe
  std::string name;          // comm
  std::string command_line;  // arguments joined by spaces, at most kMaxCommandLine bytes
  uid_t uid = 0;             // effective, in the agent's user namespace
};
inline constexpr size_t kMaxCommandLine = 1024;

// What stays the same for all events of one session; shared, immutable.
struct EventSource {
  policy::ContainerFacts facts;
  std::string container_id;                      // state.id
  std::string policy_name;                       // the policy that the filter was planned for
  std::shared_ptr<const policy::Policy> policy;  // null: there is none of that name any more
  // What the container's filter does; null: not known (a profile that somebody wrote by hand).
  std::shared_ptr<const policy::FilterRecord> filter;
  policy::FilterGaps gaps;  // between that and what `policy` needs
};

struct Event {
  int64_t time_ns = 0;  // CLOCK_REALTIME
  // Not a call: a socket that the container was started with. Then `operation` is kSocket, both
  // endpoints may be set, and the verdict is kAllow or kAudit.
  bool inherited = false;
  EventVerdict verdict = EventVerdict::kDeny;
  policy::Verdict would = policy::Verdict::kDeny;  // what enforce would have done (kAudit only)
  bool leak = false;                               // it went, or would have gone, around the proxy
  policy::Operation operation = policy::Operation::kConnect;
  policy::Transport transport = policy::Transport::kTcp;
  enum class Family : uint8_t { kNone, kIpv4, kIpv6, kUnix, kOther } family = Family::kNone;
  policy::Endpoint destination;  // kConnect, kSend: remote; kBind, kListen, kAccept: local
  policy::Endpoint source;       // kAccept: the peer; inherited: the local address
  std::string domain;            // the name that the destination was told for; may be empty
  std::string unix_name;         // path or @name, as bytes
  std::string_view syscall;      // "connect"; of the table of calls, which stays
  // Not a call: a proxy that did not carry what it should have; `detail` says which and how.
  bool proxy_failure = false;
  std::string detail;     // what else there is to say: "socket family 17", errno name; may be empty
  std::string_view rule;  // Decision::rule, which lives as long as what `rule_of` keeps
  int errno_value = 0;    // what the container was answered, 0 for success
  pid_t thread_id = 0;
  std::shared_ptr<const ProcessInfo> process;    // may be null
  std::shared_ptr<const EventSource> source_of;  // never null: container and policy
  std::shared_ptr<const void> rule_of;           // null: `rule` is of the policy of `source_of`
};

// Where sessions put events. Push never blocks and never fails: when there is no room the event is
// folded into counts ("suppressed"), so that the sum of all counts stays exact.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void Push(Event&& event) = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENTS_EVENT_H_
