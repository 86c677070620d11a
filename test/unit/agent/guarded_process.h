// A child process under a real filter whose listener the test holds: what a container is to the
// agent, without a runtime.
#ifndef OAKUM_TEST_UNIT_AGENT_GUARDED_PROCESS_H_
#define OAKUM_TEST_UNIT_AGENT_GUARDED_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>

#include "base/unique_fd.h"
#include "oci/seccomp_plan.h"

namespace oakum::agent {

class GuardedProcess {
 public:
  // Forks; the child installs a filter for `plan` (everything else allowed; no filter at
  // all for an empty plan), waits until the parent
  // calls Go, runs `body` and exits with what it returns. What it writes to descriptor 1 is
  // collected. The listener is ready on return. `wait_killable`: with
  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
  GuardedProcess(const oci::SeccompPlan& plan, const std::function<int(int output_fd)>& body,
                 bool wait_killable = false);
  ~GuardedProcess();
  GuardedProcess(const GuardedProcess&) = delete;
  GuardedProcess& operator=(const GuardedProcess&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] UniqueFd TakeListener() { return std::move(listener_); }
  void Go();
  // Waits for the end: the exit code, or minus the signal that ended it. `output` gets what the
  // body wrote.
  [[nodiscard]] int Wait(std::string* output = nullptr);

 private:
  pid_t pid_ = -1;
  UniqueFd listener_;
  UniqueFd go_;
  UniqueFd output_;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_GUARDED_PROCESS_H_
