#include "test/unit/agent/guarded_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/file.h"

// Linux 5.19; younger than the headers of some distributions.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace oakum::agent {

namespace {

scmp_compare ToLibseccomp(oci::Compare compare) {
  switch (compare) {
    case oci::Compare::kNotEqual:
      return SCMP_CMP_NE;
    case oci::Compare::kLess:
      return SCMP_CMP_LT;
    case oci::Compare::kLessOrEqual:
      return SCMP_CMP_LE;
    case oci::Compare::kEqual:
      return SCMP_CMP_EQ;
    case oci::Compare::kGreaterOrEqual:
      return SCMP_CMP_GE;
    case oci::Compare::kGreater:
      return SCMP_CMP_GT;
    case oci::Compare::kMaskedEqual:
      return SCMP_CMP_MASKED_EQ;
  }
  return SCMP_CMP_EQ;
}

// Loads the filter with flags that libseccomp 2.5 does not know; the listener, or -1.
int LoadWithFlags(scmp_filter_ctx context, unsigned flags) {
  const UniqueFd file(memfd_create("filter", MFD_CLOEXEC));
  if (seccomp_export_bpf(context, file.get()) != 0) {
    return -1;
  }
  const off_t size = lseek(file.get(), 0, SEEK_END);
  std::vector<sock_filter> program(static_cast<size_t>(size) / sizeof(sock_filter));
  if (pread(file.get(), program.data(), static_cast<size_t>(size), 0) != size) {
    return -1;
  }
  const sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                  SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &filter));
}

// Installs the filter and returns the number of the listener.
int Install(const oci::SeccompPlan& plan, bool wait_killable) {
  scmp_filter_ctx context = seccomp_init(SCMP_ACT_ALLOW);
#if defined(__x86_64__)
  if (seccomp_arch_add(context, SCMP_ARCH_X86) != 0) {
    return -1;
  }
#endif
  for (const oci::SyscallPlan& syscall_plan : plan.syscalls) {
    const int nr = seccomp_syscall_resolve_name(syscall_plan.name.c_str());
    if (nr == __NR_SCMP_ERROR) {
      return -1;
    }
    for (const oci::FilterBranch& branch : syscall_plan.branches) {
      if (branch.action == oci::FilterAction::kAllow) {
        continue;
      }
      std::vector<scmp_arg_cmp> args;
      args.reserve(branch.conditions.size());
      for (const oci::ArgCondition& condition : branch.conditions) {
        args.push_back({condition.index, ToLibseccomp(condition.compare), condition.value,
                        condition.value_two});
      }
      const uint32_t action = branch.action == oci::FilterAction::kNotify
                                  ? SCMP_ACT_NOTIFY
                                  : SCMP_ACT_ERRNO(static_cast<uint32_t>(branch.errno_value));
      if (seccomp_rule_add_array(context, action, nr, static_cast<unsigned>(args.size()),
                                 args.data()) != 0) {
        return -1;
      }
    }
  }
  if (wait_killable) {
    return LoadWithFlags(context, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  }
  if (seccomp_load(context) != 0) {
    return -1;
  }
  return seccomp_notify_fd(context);
}

// fork(2) copies locks as they are, and a sanitizer's allocator has some that no fork handler
// releases: waits until every other thread of this process sleeps, which it does not with one held.
void WaitUntilOthersSleep() {
  const auto sleeps = [](const std::filesystem::path& task) {
    // One that has ended meanwhile has no state.
    const std::string stat = ReadFile(task / "stat", 4096).value_or("");
    const size_t name_end = stat.rfind(") ");
    return name_end == std::string::npos || stat[name_end + 2] != 'R';
  };
  const std::string own = std::to_string(gettid());
  for (int attempt = 0; attempt < 1000; ++attempt) {
    bool all = true;
    std::error_code ignored;
    for (std::filesystem::directory_iterator task("/proc/self/task", ignored);
         task != std::filesystem::directory_iterator(); task.increment(ignored)) {
      all = all && (task->path().filename() == own || sleeps(task->path()));
    }
    if (all) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

GuardedProcess::GuardedProcess(const oci::SeccompPlan& plan,
                               const std::function<int(int output_fd)>& body, bool wait_killable) {
  std::array<int, 2> listener_pipe{};
  std::array<int, 2> go_pipe{};
  std::array<int, 2> output_pipe{};
  if (pipe2(listener_pipe.data(), O_CLOEXEC) != 0 || pipe2(go_pipe.data(), O_CLOEXEC) != 0 ||
      pipe2(output_pipe.data(), O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe2";
    return;
  }
  WaitUntilOthersSleep();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(listener_pipe[0]);
    close(go_pipe[1]);
    close(output_pipe[0]);
    const int listener = plan.syscalls.empty() ? 0 : Install(plan, wait_killable);
    char go = 0;
    if (write(listener_pipe[1], &listener, sizeof listener) != sizeof listener ||
        read(go_pipe[0], &go, 1) != 1) {
      _exit(101);
    }
    if (listener > 0) {
      close(listener);
    }
    const int status = body(output_pipe[1]);
    _exit(status);
  }
  close(listener_pipe[1]);
  close(go_pipe[0]);
  close(output_pipe[1]);
  const UniqueFd listener_number(listener_pipe[0]);
  go_.Reset(go_pipe[1]);
  output_.Reset(output_pipe[0]);
  int number = -1;
  if (read(listener_number.get(), &number, sizeof number) != sizeof number || number < 0) {
    ADD_FAILURE() << "the child could not install its filter";
    return;
  }
  if (plan.syscalls.empty()) {
    return;
  }
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  listener_.Reset(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
  EXPECT_TRUE(listener_.valid());
}

void GuardedProcess::Go() { EXPECT_EQ(write(go_.get(), "g", 1), 1); }

int GuardedProcess::Wait(std::string* output) {
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = read(output_.get(), buffer.data(), buffer.size())) > 0;) {
    if (output != nullptr) {
      output->append(buffer.data(), static_cast<size_t>(got));
    }
  }
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

GuardedProcess::~GuardedProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

}  // namespace oakum::agent
