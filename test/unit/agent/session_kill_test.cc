// Kill mode: who is killed, and in which order.
#include <sched.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

cpu_set_t OneProcessor() {
  cpu_set_t all;
  CPU_ZERO(&all);
  EXPECT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  int first = 0;
  while (!CPU_ISSET(first, &all)) {
    ++first;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  return one;
}

// The first process waits for the one that calls, and would go on when that is dead. On one
// processor, which the session has when nobody else wants it (SCHED_IDLE, sched(7)), whoever is
// killed has ended, and who waits for that has gone on, before the session kills another one.
TEST(KillTest, WhoWaitsForTheCallerDoesNotGoOn) {
  const cpu_set_t one = OneProcessor();
  Guarded guarded(Policies("kill", R"("outgoing": {"default": "deny"})"));
  for (int i = 0; i < 3; ++i) {
    GuardedProcess process(guarded.Plan(), [&](int) {
      (void)sched_setaffinity(0, sizeof one, &one);
      const pid_t caller = fork();
      if (caller == 0) {
        (void)SendError(9);
        _exit(1);
      }
      int status = 0;
      return waitpid(caller, &status, 0) == caller ? 42 : 43;
    });
    std::thread([&] {  // the session's thread inherits what this one has
      const sched_param none = {};
      EXPECT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
      EXPECT_EQ(sched_setscheduler(0, SCHED_IDLE, &none), 0);
      guarded.Attach(process, std::to_string(i));
    })
        .join();
    process.Go();
    EXPECT_EQ(process.Wait(), -SIGKILL);
  }
}

}  // namespace
}  // namespace oakum::agent
