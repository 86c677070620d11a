// A child process under a filter of its own, whose listener the parent holds: what a runtime does
// for a container, without one and without root.
#ifndef OAKUM_CLI_GUARDED_PROGRAM_H_
#define OAKUM_CLI_GUARDED_PROGRAM_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/bpf.h"
#include "oci/seccomp_plan.h"

namespace oakum::cli {

// The filter of `plan` over "everything is allowed", for the native architecture and its compatible
// ones. Errors: those of MergeSeccomp and of libseccomp.
[[nodiscard]] Expected<oci::BpfProgram> OwnFilter(const oci::SeccompPlan& plan);

class GuardedProgram {
 public:
  // Forks; the child sets no_new_privs (prctl(2)), installs `filter` and waits. To be called while
  // the process has one thread. The child keeps the signal mask, dispositions, limits and every
  // descriptor without close-on-exec that this process has now.
  // `wait_killable`: with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
  // Errors: fork(2)'s and seccomp(2)'s; EBUSY when this process is guarded already; those of
  // pidfd_getfd(2).
  [[nodiscard]] static Expected<GuardedProgram> Start(const oci::BpfProgram& filter,
                                                      std::vector<std::string> command,
                                                      bool wait_killable);
  GuardedProgram(GuardedProgram&& other) noexcept;
  GuardedProgram& operator=(GuardedProgram&&) = delete;
  // Without Exec the child has ended afterwards.
  ~GuardedProgram();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] UniqueFd TakeListener() { return std::move(listener_); }
  // Has the child execute the command, which is looked for in PATH; returns when it has. Errors:
  // execve(2)'s; the child has ended then and is to be waited for.
  [[nodiscard]] Expected<void> Exec();

 private:
  GuardedProgram(pid_t pid, std::string name, UniqueFd go, UniqueFd reports);

  pid_t pid_;
  std::string name_;
  UniqueFd go_;       // closed without a byte: the child ends
  UniqueFd reports_;  // what the child says
  UniqueFd listener_;
};

}  // namespace oakum::cli

#endif  // OAKUM_CLI_GUARDED_PROGRAM_H_
