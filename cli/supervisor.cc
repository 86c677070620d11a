#include "cli/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <utility>

namespace oakum::cli {

namespace {

constexpr std::array<int, 7> kPassedOn = {SIGINT,   SIGTERM, SIGHUP, SIGQUIT,
                                          SIGWINCH, SIGUSR1, SIGUSR2};
constexpr int kPatienceMs = 1000;  // before somebody is told what is being waited for
constexpr int kKillAgainMs = 10;   // children of the killed become ours

// Processes that lose their parent go to the main thread (proc_pid_children, proc(5)). Empty on
// kernels without CONFIG_PROC_CHILDREN.
std::set<pid_t> Children() {
  std::ifstream in(fmt::format("/proc/self/task/{}/children", getpid()));
  std::set<pid_t> children;
  for (pid_t child = 0; in >> child;) {
    children.insert(child);
  }
  return children;
}

void Raise(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(event_fd, &one, sizeof one);
}

}  // namespace

Expected<Supervisor> Supervisor::Create() {
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
    return ErrnoError("prctl(PR_SET_CHILD_SUBREAPER)");
  }
  UniqueFd kill_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd end_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!kill_event || !end_event) {
    return ErrnoError("eventfd");
  }
  return Supervisor(std::move(kill_event), std::move(end_event), Children());
}

Expected<void> Supervisor::TakeSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int signal : kPassedOn) {
    sigaddset(&set, signal);
  }
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return ErrnoError(error, "pthread_sigmask");
  }
  // With SIGCHLD ignored, as a parent may have left it, children would vanish with their status.
  if (signal(SIGCHLD, SIG_DFL) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
    return ErrnoError("signal");
  }
  signals_.Reset(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_) {
    return ErrnoError("signalfd");
  }
  return {};
}

void Supervisor::KillAll() const { Raise(kill_event_.get()); }

void Supervisor::SignalAll(int signal) const {
  for (const pid_t child : Children()) {
    if (!others_.contains(child)) {
      kill(child, signal);
    }
  }
}

void Supervisor::Reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    Ended(pid, status);
  }
}

void Supervisor::Ended(pid_t child, int status) {
  others_.erase(child);
  if (child == program_) {
    SetEnd(status);
  }
}

void Supervisor::SetEnd(int status) {
  ended_ = true;
  status_ = status;
  if (end_ != nullptr) {
    end_->status = status;
    end_->ended = true;
  }
  Raise(end_event_.get());
}

void Supervisor::TakeOver(pid_t program, const std::set<pid_t>& others) {
  program_ = program;
  others_.insert(others.begin(), others.end());
  LookForAnEarlierEnd();
}

void Supervisor::LeaveToKeeper() {
  for (UniqueFd* fd : {&kill_event_, &end_event_, &signals_}) {
    (void)fd->Release();
  }
}

void Supervisor::Signal(int signal) const {
  if (ended_) {
    SignalAll(signal);
  } else {
    kill(program_, signal);
  }
}

void Supervisor::PassSignalsOn() {
  HandleSignals(program_, [this](int signal) { Signal(signal); });
}

void Supervisor::HandleSignals(pid_t program, const std::function<void(int)>& pass_on) {
  const bool has_keeper = keeper_ > 0 && getppid() == keeper_;
  signalfd_siginfo info = {};
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    const auto sender = static_cast<pid_t>(info.ssi_pid);
    // Positive codes are the kernel's, of a terminal here (sigaction(2)). A program that signals
    // its own group means itself as well, and has done so.
    if (signal == SIGCHLD || info.ssi_code > 0 || sender == program ||
        (has_keeper && sender != keeper_)) {
      continue;
    }
    pass_on(signal);
  }
}

void Supervisor::PassSignalsOn(pid_t to, pid_t program) {
  HandleSignals(program, [to](int signal) { kill(to, signal); });
}

void Supervisor::LookForAnEarlierEnd() {
  if (end_ != nullptr && end_->ended) {
    SetEnd(end_->status);
    return;
  }
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(program_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 &&
      errno == ECHILD) {
    SetEnd(SIGKILL);  // who has waited for it has died before it could say so
  }
}

int Supervisor::Wait(pid_t program, int listener_fd, const std::function<void()>& on_wait) {
  using Clock = std::chrono::steady_clock;
  program_ = program;
  LookForAnEarlierEnd();
  bool killing = false;
  bool told = false;
  Clock::time_point ended_at;
  // The listener only ever reports POLLHUP here: no task has the filter any more.
  std::array<pollfd, 3> watched{pollfd{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                pollfd{.fd = listener_fd, .events = 0, .revents = 0},
                                pollfd{.fd = kill_event_.get(), .events = POLLIN, .revents = 0}};
  bool guarded = true;
  for (;;) {
    const bool was_ended = ended_;
    Reap();  // before Linux 6.11 a task keeps its filter until it has been waited for
    if (ended_ && !guarded) {
      return status_;
    }
    if (ended_ && !was_ended) {
      ended_at = Clock::now();
    }
    if (ended_ && !told && Clock::now() - ended_at >= std::chrono::milliseconds(kPatienceMs)) {
      told = true;
      on_wait();
    }
    const int timeout = killing && guarded ? kKillAgainMs : ended_ && !told ? kPatienceMs : -1;
    if (poll(watched.data(), watched.size(), timeout) > 0) {
      if (watched[1].revents != 0) {
        guarded = false;
        watched[1].fd = -1;
      }
      if (watched[2].revents != 0) {
        killing = true;
        watched[2].fd = -1;
      }
      PassSignalsOn();
    }
    if (killing && guarded) {
      SignalAll(SIGKILL);
    }
  }
}

int Supervisor::WaitBeside(pid_t keeper, int listener_fd, const std::function<void()>& on_wait) {
  const UniqueFd keeper_pidfd(static_cast<int>(syscall(SYS_pidfd_open, keeper, 0)));
  std::array<pollfd, 3> watched{pollfd{.fd = listener_fd, .events = 0, .revents = 0},
                                pollfd{.fd = end_event_.get(), .events = POLLIN, .revents = 0},
                                pollfd{.fd = keeper_pidfd.get(), .events = POLLIN, .revents = 0}};
  if (getppid() != keeper) {
    watched[2].fd = -1;
  }
  bool told = false;
  // Without the keeper nobody says how the program ends.
  while (watched[0].fd >= 0 || (watched[1].fd >= 0 && watched[2].fd >= 0)) {
    const bool waits = watched[1].fd < 0 && !told;
    if (poll(watched.data(), watched.size(), waits ? kPatienceMs : -1) == 0) {
      told = true;
      on_wait();
    }
    for (pollfd& one : watched) {
      if (one.revents != 0) {
        one.fd = -1;
        one.revents = 0;
      }
    }
  }
  return end_ != nullptr && end_->ended ? end_->status.load() : SIGKILL;
}

}  // namespace oakum::cli
