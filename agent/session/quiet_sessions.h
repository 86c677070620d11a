// Sessions whose containers call nothing have no thread.
#ifndef OAKUM_AGENT_SESSION_QUIET_SESSIONS_H_
#define OAKUM_AGENT_SESSION_QUIET_SESSIONS_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "agent/session/session.h"
#include "base/error.h"
#include "base/log.h"

namespace oakum::agent {

// One thread that waits for all sessions which have none. A session starts with a thread of its
// own; when it has received nothing for a while that ends, and another one is started with the next
// call. Where none can be (pthread_create(3), EAGAIN), the call waits until one can. It does
// nothing whose length a container decides. Thread-safe.
class QuietSessions {
 public:
  // `quiet_after`: how long a session has its thread without a call, at least. `log` outlives it.
  // Errors: those of epoll_create1(2), eventfd(2), pthread_create(3).
  [[nodiscard]] static Expected<std::unique_ptr<QuietSessions>> Create(
      std::chrono::milliseconds quiet_after, const Log& log);
  virtual ~QuietSessions() = default;

  // From here on. `session` outlives its removal. `number`: not 0.
  virtual void Add(uint64_t number, Session& session) = 0;
  // When this returns, nothing more is done with that session.
  virtual void Remove(uint64_t number) = 0;
  // The session's thread ends, to rest: called by it.
  virtual void Rests(uint64_t number) = 0;
  // Nothing is done with any session from here on.
  virtual void Stop() = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_QUIET_SESSIONS_H_
