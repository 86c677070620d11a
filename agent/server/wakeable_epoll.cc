#include "agent/server/wakeable_epoll.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

namespace oakum::agent {

Expected<WakeableEpoll> WakeableEpoll::Create(uint64_t wake_key) {
  WakeableEpoll made;
  made.epoll.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!made.epoll) {
    return ErrnoError("epoll_create1");
  }
  made.wake.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made.wake) {
    return ErrnoError("eventfd");
  }
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = wake_key;
  if (epoll_ctl(made.epoll.get(), EPOLL_CTL_ADD, made.wake.get(), &event) != 0) {
    return ErrnoError("epoll_ctl");
  }
  return made;
}

}  // namespace oakum::agent
