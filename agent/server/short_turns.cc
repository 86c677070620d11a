#include "agent/server/short_turns.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace oakum::agent {

void TakeShortTurns() {
  struct {
    uint32_t size = sizeof(*this);
    uint32_t policy = SCHED_OTHER;
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime_ns = 100'000;  // the least there is
    uint64_t deadline_ns = 0;
    uint64_t period_ns = 0;
  } wanted;
  if (sched_getscheduler(0) == SCHED_OTHER) {
    wanted.nice = getpriority(PRIO_PROCESS, 0);
    (void)syscall(SYS_sched_setattr, 0, &wanted, 0);
  }
}

}  // namespace oakum::agent
