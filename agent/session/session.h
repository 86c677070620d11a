// The thread that answers for one session.
#ifndef OAKUM_AGENT_SESSION_SESSION_H_
#define OAKUM_AGENT_SESSION_SESSION_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "agent/session/desk.h"
#include "agent/session/reactor.h"
#include "agent/session/session_core.h"
#include "base/error.h"

namespace oakum::agent {

// Receives notifications in a thread of its own, so that a container whose RECV blocks (its caller
// died between the wake-up and the read) or whose calls are many delays nobody else, and so that
// the thread is woken on the caller's processor. One that has received nothing for a while may be
// told to end until there is something again (QuietSessions).
class Session {
 public:
  // Both run on the session's thread as its last act.
  struct Ends {
    std::function<void()> for_good;  // every task of the filter has gone, or the session is stopped
    std::function<void()> to_rest;   // until Wake()
  };

  // Errors: pthread_create(3)'s.
  [[nodiscard]] static Expected<std::unique_ptr<Session>> Start(std::shared_ptr<SessionCore> core,
                                                                Reactor& reactor,
                                                                SessionOptions options, Ends ends);
  // Stops the thread if it still runs. The listener closes with the last holder of the core.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] const std::shared_ptr<SessionCore>& core() const { return core_; }
  // Wakes the thread from a blocked receive so that it looks whether the filter's tasks have gone
  // (before Linux 6.11 nothing else does). False when there is no thread. Thread-safe.
  bool Nudge();

  // The rest is for one thread at a time.
  // Has the thread end if it waits for a call: false where it does not. It may take several tries,
  // for it is told by a signal, which may come just before it waits. No signal meets a thread that
  // has received a call, whose system calls it would interrupt.
  bool AskToRest();
  // Joins a thread that has ended. False while there is one that has not.
  [[nodiscard]] bool Join();
  // Starts another one. Errors: pthread_create(3)'s.
  [[nodiscard]] Expected<void> Wake();

 private:
  // Where the thread is with its receive.
  enum class Receive : uint8_t {
    kNot,
    kWaits,
    kIsBeingAsked,  // to rest: a signal is about to be sent
    kAsked,         // it has been sent
  };

  Session(std::shared_ptr<SessionCore> core, Reactor& reactor, SessionOptions options, Ends ends);
  void Loop();
  // Answers calls; true when the thread was asked to rest.
  [[nodiscard]] bool Work();
  // After a receive. True when the thread has been asked to rest.
  [[nodiscard]] bool StopWaiting();

  const std::shared_ptr<SessionCore> core_;
  Reactor& reactor_;
  const SessionOptions options_;
  const Ends ends_;
  LastingNotes notes_;
  bool took_up_ = false;  // what an agent before this one had received
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};
  std::atomic<Receive> receive_{Receive::kNot};
  std::mutex thread_mutex_;
  pthread_t thread_{};  // none: it has been joined
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_SESSION_H_
