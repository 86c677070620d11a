#include "cli/guarded_program.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "oci/absent_archs.h"
#include "oci/seccomp_merge.h"
#include "oci/seccomp_program.h"
#include "oci/seccomp_section.h"

// Younger than the headers of some systems (Linux 5.19).
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace oakum::cli {

namespace {

// A section with a listener needs a path; nobody connects to this one.
constexpr char kNoListenerPath[] = "/nonexistent";

// What the child says through its pipe: the number of its listener, or what failed.
struct ChildReport {
  int listener = -1;
  int error = 0;  // errno
};

Expected<std::pair<UniqueFd, UniqueFd>> MakePipe() {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) {
    return ErrnoError("pipe2");
  }
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

ssize_t ReadRetry(int fd, void* data, size_t size) {
  ssize_t got = 0;
  while ((got = read(fd, data, size)) < 0 && errno == EINTR) {
  }
  return got;
}

// The listener has close-on-exec set (seccomp(2), SECCOMP_FILTER_FLAG_NEW_LISTENER).
ChildReport Install(const sock_fprog& program, bool wait_killable) {
  ChildReport report;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    report.error = errno;
    return report;
  }
  const unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER |
                              (wait_killable ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0);
  const long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (listener < 0) {
    report.error = errno;
  } else {
    report.listener = static_cast<int>(listener);
  }
  return report;
}

// Between fork(2) and execve(2).
[[noreturn]] void BeChild(const sock_fprog& program, bool wait_killable, int reports_fd, int go_fd,
                          char* const* command) {
  const ChildReport installed = Install(program, wait_killable);
  char go = 0;
  if (write(reports_fd, &installed, sizeof installed) != sizeof installed || installed.error != 0 ||
      ReadRetry(go_fd, &go, 1) != 1) {
    _exit(127);
  }
  execvp(command[0], command);
  const ChildReport failed{.listener = -1, .error = errno};
  [[maybe_unused]] const ssize_t put = write(reports_fd, &failed, sizeof failed);
  _exit(127);
}

}  // namespace

Expected<oci::BpfProgram> OwnFilter(const oci::SeccompPlan& plan) {
  auto merged = oci::MergeSeccomp(
      {}, plan,
      {.path = kNoListenerPath, .metadata = {}, .flags = {}, .absent_archs = oci::AbsentArchs()});
  if (!merged) {
    return std::unexpected(std::move(merged.error()));
  }
  auto section = oci::ParseSeccompSection(*merged);
  if (!section) {
    return std::unexpected(std::move(section.error()));
  }
  return oci::ToBpf(*section);
}

GuardedProgram::GuardedProgram(pid_t pid, std::string name, UniqueFd go, UniqueFd reports)
    : pid_(pid), name_(std::move(name)), go_(std::move(go)), reports_(std::move(reports)) {}

GuardedProgram::GuardedProgram(GuardedProgram&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      name_(std::move(other.name_)),
      go_(std::move(other.go_)),
      reports_(std::move(other.reports_)),
      listener_(std::move(other.listener_)) {}

GuardedProgram::~GuardedProgram() {
  if (pid_ > 0 && go_) {
    go_.Reset();
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

Expected<GuardedProgram> GuardedProgram::Start(const oci::BpfProgram& filter,
                                               std::vector<std::string> command,
                                               bool wait_killable) {
  auto go = MakePipe();
  auto reports = MakePipe();
  if (!go || !reports) {
    return std::unexpected(!go ? go.error() : reports.error());
  }
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& word : command) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  // The kernel only reads it.
  const sock_fprog program{.len = static_cast<unsigned short>(filter.size()),
                           .filter = const_cast<sock_filter*>(filter.data())};
  const pid_t pid = fork();
  if (pid < 0) {
    return ErrnoError("fork");
  }
  if (pid == 0) {
    go->second.Reset();
    BeChild(program, wait_killable, reports->second.get(), go->first.get(), arguments.data());
  }
  GuardedProgram started(pid, command[0], std::move(go->second), std::move(reports->first));
  reports->second.Reset();
  ChildReport report;
  if (ReadRetry(started.reports_.get(), &report, sizeof report) != sizeof report) {
    return MakeError(ECHILD, "the child ended before it had its filter");
  }
  if (report.error == EBUSY) {
    return MakeError(EBUSY, "this process has a seccomp listener already: it is guarded itself");
  }
  if (report.error != 0) {
    return ErrnoError(report.error, "cannot install the filter (seccomp(2))");
  }
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    return ErrnoError("pidfd_open");
  }
  started.listener_.Reset(
      static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), report.listener, 0)));
  if (!started.listener_) {
    return ErrnoError("cannot take the child's listener (pidfd_getfd(2))");
  }
  return started;
}

Expected<void> GuardedProgram::Exec() {
  const UniqueFd go = std::move(go_);
  if (write(go.get(), "g", 1) != 1) {
    return ErrnoError(name_);
  }
  ChildReport report;
  // Nothing but the end of the pipe: it closed on exec.
  if (ReadRetry(reports_.get(), &report, sizeof report) == sizeof report) {
    return ErrnoError(report.error, Escape(name_));
  }
  return {};
}

}  // namespace oakum::cli
