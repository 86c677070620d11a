// The thread that reads one listener.
#ifndef OAKUM_AGENT_SESSION_SESSION_H_
#define OAKUM_AGENT_SESSION_SESSION_H_

#include <pthread.h>

#include <atomic>
#include <functional>
#include <memory>

#include "agent/session/reactor.h"
#include "agent/session/session_core.h"
#include "base/error.h"

namespace oakum::agent {

// Receives notifications in a thread of its own, so that a container whose RECV blocks (its caller
// died between the wake-up and the read) or whose calls are many delays nobody else, and so that
// the thread is woken on the caller's processor.
class Session {
 public:
  // `on_end` runs on the session's thread as its last act. Errors: pthread_create(3)'s.
  [[nodiscard]] static Expected<std::unique_ptr<Session>> Start(std::shared_ptr<SessionCore> core,
                                                                Reactor& reactor,
                                                                SessionOptions options,
                                                                std::function<void()> on_end);
  // Stops the thread if it still runs. The listener closes with the last holder of the core.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const std::shared_ptr<SessionCore>& core() const { return core_; }
  // Wakes the thread from a blocked receive so that it looks whether the filter's tasks have gone
  // (before Linux 6.11 nothing else does).
  void Nudge();

 private:
  class Desk;

  Session(std::shared_ptr<SessionCore> core, Reactor& reactor, SessionOptions options,
          std::function<void()> on_end);
  void Loop();

  const std::shared_ptr<SessionCore> core_;
  Reactor& reactor_;
  const SessionOptions options_;
  const std::function<void()> on_end_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};
  pthread_t thread_{};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_SESSION_H_
