// Sessions that an agent before this one has kept.
#ifndef OAKUM_AGENT_SESSION_ADOPTION_H_
#define OAKUM_AGENT_SESSION_ADOPTION_H_

#include <chrono>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "agent/kept/fd_store.h"
#include "agent/session/session_keeping.h"
#include "base/error.h"

namespace oakum::agent {

// Whether there was no room for a thread, memory or a descriptor, which there may be a moment
// later.
[[nodiscard]] bool IsPassing(const Error& error);

// For all that is tried while sessions are adopted, until there is room, for a bounded time in all.
class AdoptionPatience {
 public:
  static constexpr std::chrono::seconds kLongest{5};
  explicit AdoptionPatience(std::chrono::milliseconds longest = kLongest)
      : until_(std::chrono::steady_clock::now() + longest) {}
  // True after a moment's wait when it is worth another try; else at once.
  [[nodiscard]] bool Again(const Error& error) const;

 private:
  std::chrono::steady_clock::time_point until_;
};

// Those of `items` that are sessions, in the order in which they began: a container's first one
// knows what it began with. The descriptors of what cannot be opened are closed; `failed` is told.
[[nodiscard]] std::list<AdoptedSession> OpenSessions(
    std::vector<KeptItem>& items, const AdoptionPatience& patience,
    const std::function<void(const std::string& name, const Error& error)>& failed);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_ADOPTION_H_
