// What a thread waits on that others can wake.
#ifndef OAKUM_AGENT_SERVER_WAKEABLE_EPOLL_H_
#define OAKUM_AGENT_SERVER_WAKEABLE_EPOLL_H_

#include <cstdint>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

struct WakeableEpoll {
  UniqueFd epoll;
  UniqueFd wake;  // eventfd(2), non-blocking, watched by `epoll`

  // `wake_key`: epoll_event::data.u64 when woken. Errors: those of epoll_create1(2), eventfd(2) and
  // epoll_ctl(2).
  [[nodiscard]] static Expected<WakeableEpoll> Create(uint64_t wake_key);
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_WAKEABLE_EPOLL_H_
