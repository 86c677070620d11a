// The agent: everything between its command line and its sessions.
#ifndef OAKUM_AGENT_AGENT_H_
#define OAKUM_AGENT_AGENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/agent_status.h"
#include "agent/events/event_log.h"
#include "agent/kept/fd_store.h"
#include "agent/listener.h"
#include "agent/server/event_loop.h"
#include "agent/server/log_limit.h"
#include "agent/server/text_server.h"
#include "agent/server/unix_socket.h"
#include "agent/session/session_manager.h"
#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "policy/policy_set.h"

namespace oakum::agent {

struct AgentOptions {
  std::string version;
  std::string socket;         // where runtimes connect
  std::string policy;         // file or directory
  std::string events = "-";   // file, or "-" for the standard output
  std::string control;        // control socket; empty: "control.sock" beside `socket`
  std::string control_group;  // whose members may read there, name or number; empty: nobody else
  std::string metrics;        // ADDRESS:PORT; empty: none
  FdStore* store = nullptr;   // where the sessions are kept; outlives the agent; null: nowhere
};

// The group of that name or number. Errors: ENOENT, those of getgrnam_r(3).
[[nodiscard]] Expected<gid_t> FindGroup(const std::string& group);

// Blocks SIGHUP, SIGTERM and SIGINT in the calling thread, and so in all that it starts later, and
// returns a signalfd(2) for them. To be called before any thread is started: one that has them
// unblocked would be ended by them. Errors: pthread_sigmask(3)'s, signalfd(2)'s.
[[nodiscard]] Expected<UniqueFd> BlockSignals();

class Agent {
 public:
  // How sessions are made; a stand-in in tests.
  using MakeSessions = std::function<Expected<std::unique_ptr<SessionManager>>(
      std::shared_ptr<const policy::PolicySet> policies, EventSink& events, const Log& log)>;

  // Reads the policy, opens everything, goes on with the sessions that are `kept`, and listens.
  // `signals` is BlockSignals'; `log` outlives the agent. Errors: whatever of these fails, ENOTSUP
  // for sessions of another version; nothing stays behind.
  [[nodiscard]] static Expected<std::unique_ptr<Agent>> Create(AgentOptions options,
                                                               UniqueFd signals,
                                                               const MakeSessions& make_sessions,
                                                               const Log& log,
                                                               std::vector<KeptItem> kept = {});
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Says READY to systemd (sd_notify(3)) and serves until SIGTERM or SIGINT. Errors:
  // epoll_wait(2)'s.
  [[nodiscard]] Expected<void> Run();
  // Reads the policy again and has the event log opened anew, as SIGHUP does. A bad policy leaves
  // the old one in force: the error says why, and so does the log.
  Expected<void> Reload();
  [[nodiscard]] AgentStatus Status() const;
  [[nodiscard]] EventLoop& loop() { return *loop_; }

 private:
  Agent(AgentOptions options, UniqueFd signals, const Log& log);
  [[nodiscard]] Expected<void> Start(const MakeSessions& make_sessions, std::vector<KeptItem> kept);
  [[nodiscard]] Expected<void> StartServers();
  [[nodiscard]] Expected<void> StartControl();
  [[nodiscard]] std::optional<Peer> AdmitToControl(int socket_fd);
  [[nodiscard]] Expected<void> StartMetrics();
  void HandleSignal();
  [[nodiscard]] std::chrono::milliseconds Patience() const;
  void WatchStore();
  // Whether what is to be kept can be, for all that is known.
  [[nodiscard]] bool MayKeep() const;
  void RenewStore();
  void KeepRest();
  void KickWatchdog();

  AgentOptions options_;
  const Log& log_;
  AgentStatus status_;  // what does not change by itself
  UniqueFd signals_;
  LogLimit refusals_;
  int store_fd_ = -1;         // that is watched
  bool store_lost_ = false;   // and not renewed
  uint64_t watchdog_us_ = 0;  // how often systemd wants to hear from us; 0: never

  // In the order of their dependence: what is below uses what is above.
  std::unique_ptr<EventLoop> loop_;
  std::shared_ptr<const policy::PolicySet> policies_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<SessionManager> sessions_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<UnixListener> control_socket_;
  std::optional<gid_t> control_group_;
  std::unique_ptr<TextServer> control_;
  UniqueFd metrics_socket_;
  std::unique_ptr<TextServer> metrics_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_AGENT_H_
