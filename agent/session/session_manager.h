// All sessions of an agent: one for each notify descriptor.
#ifndef OAKUM_AGENT_SESSION_SESSION_MANAGER_H_
#define OAKUM_AGENT_SESSION_SESSION_MANAGER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/events/event.h"
#include "agent/kept/fd_store.h"
#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/container_state.h"
#include "policy/filter_record.h"
#include "policy/policy_set.h"

namespace oakum::agent {

// A snapshot of one session for `oakum ps` and the metrics.
class TlsProcess;

struct SessionInfo {
  uint64_t session = 0;  // unique in the life of the agent
  std::string container_id;
  std::string name;
  std::string image;
  std::string policy;  // empty: no policy of that name, everything is denied
  policy::Mode mode = policy::Mode::kEnforce;
  pid_t init_pid = 0;
  int64_t attached_ns = 0;  // CLOCK_REALTIME
  uint64_t calls = 0;       // notifications received
  uint64_t allowed = 0;
  uint64_t denied = 0;
  uint64_t leaks = 0;           // decided calls with oakum.leak
  uint64_t redirected = 0;      // decided calls that went through a proxy
  uint64_t proxy_failures = 0;  // times that a proxy did not carry what it should have
  uint64_t waiting = 0;         // calls that are being performed and have not finished yet
  // Where the container's filter does not do what the policy needs now; empty without a policy.
  bool filter_known = false;
  policy::FilterGaps filter_gaps;
};

// What all sessions did since the agent started, those that have ended included: counters that only
// grow, for the metrics.
struct SessionTotals {
  uint64_t sessions = 0;  // attached
  uint64_t calls = 0;
  uint64_t allowed = 0;
  uint64_t denied = 0;
  uint64_t leaks = 0;
  uint64_t redirected = 0;
  uint64_t proxy_failures = 0;
};

struct SessionOptions {
  bool use_io_uring = true;       // false: threads perform what may block
  bool use_sync_wake_up = true;   // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP where the kernel has it
  bool use_thread_pidfds = true;  // PIDFD_THREAD where the kernel has it (Linux 6.9)
  FdStore* store = nullptr;       // outlives the manager; null: sessions end with it
  // Who speaks TLS with proxies, outlives the manager; null: the manager's own process.
  TlsProcess* tls_process = nullptr;
  // A session without a call for so long gives up its thread until the next one. As long as what
  // was done for a caller that a signal has interrupted is kept for it (Undelivered).
  std::chrono::milliseconds quiet_after{10'000};
};

class SessionManager {
 public:
  // `events` and `log` outlive the manager. Errors: those of epoll_create1(2), eventfd(2) or of
  // starting a thread.
  [[nodiscard]] static Expected<std::unique_ptr<SessionManager>> Create(
      SessionOptions options, std::shared_ptr<const policy::PolicySet> policies, EventSink& events,
      const Log& log);
  // Ends all sessions: their descriptors close, and calls that are under way stay as they are.
  // Those that are kept are for the next agent.
  virtual ~SessionManager() = default;

  // Starts a session on `notify_fd`; returns at once. Errors: EINVAL when the descriptor is not a
  // seccomp listener, EAGAIN beyond the bound of sessions, pthread_create(3)'s. On error the
  // descriptor is closed, so that the container's guarded calls fail with ENOSYS.
  [[nodiscard]] virtual Expected<void> Attach(const oci::ContainerProcessState& state,
                                              UniqueFd notify_fd) = 0;
  // Goes on with the sessions that an earlier agent has kept: to be called before anything is
  // attached. Calls that were under way are answered first. Items of other names are left alone;
  // a session that cannot be gone on with is logged and forgotten. Returns how many there are.
  // Errors: ENOTSUP when one of them has a format of another version; nothing has been changed
  // then.
  [[nodiscard]] virtual Expected<size_t> Adopt(std::vector<KeptItem> items) = 0;
  // The store keeps nothing any more of what it was handed (FdStore::Renew): all is to be handed
  // over again, by KeepRest().
  virtual void KeepAgain() {}
  // Hands over what the store has not, for whatever reason, yet been handed. Returns how many
  // sessions are left.
  virtual size_t KeepRest() { return 0; }
  [[nodiscard]] virtual bool left_to_keep() const { return false; }
  // From the next call on, sessions use the policy of the same name in `policies`; a session whose
  // policy is gone denies everything. Each call is decided under one policy, as a whole. What a
  // container's filter does not do of what the new policy needs is logged, once a container.
  virtual void SetPolicies(std::shared_ptr<const policy::PolicySet> policies) = 0;
  [[nodiscard]] virtual std::vector<SessionInfo> List() const = 0;
  [[nodiscard]] virtual SessionTotals Totals() const = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_SESSION_MANAGER_H_
