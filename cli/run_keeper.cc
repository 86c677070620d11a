#include "cli/run_keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "cli/run_tls.h"
#include "cli/yama.h"

namespace oakum::cli {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kKillAgainMs = 10;  // children of the killed become ours
constexpr int kLooksAgainMs = 100;
// A guard that dies at once, again and again, is not started without a pause.
constexpr std::chrono::milliseconds kShortLife{100};
constexpr std::chrono::milliseconds kFirstPause{10};
constexpr std::chrono::milliseconds kLongestPause{1000};
// What speaks TLS ends when its connections have.
constexpr std::chrono::milliseconds kTlsEndsWithin{1000};

// There until the process ends: a guard has a copy of it, whose descriptors are not its own.
class RunKeeper {
 public:
  RunKeeper(Supervisor& supervisor, std::unique_ptr<RunTable> table, UniqueFd own_end,
            UniqueFd guards_end)
      : supervisor_(supervisor),
        mapped_(std::move(table)),
        table_(*mapped_),
        own_end_(std::move(own_end)),
        guards_end_(std::move(guards_end)) {}

  [[nodiscard]] int own_end() const { return own_end_.get(); }
  [[nodiscard]] int guards_end() const { return guards_end_.get(); }

  // In a guard, a child of `keeper`.
  GuardRole BeGuard(pid_t keeper, std::optional<DeadGuard> before) {
    return {.store = std::make_unique<RunStore>(table_, guards_end_.get(), keeper),
            .keeper = keeper,
            .before = std::move(before)};
  }

  // Returns in the keeper and in each guard that it starts.
  RunRole Run(pid_t guard) {
    const pid_t keeper = getpid();
    std::chrono::milliseconds pause{};
    for (;;) {
      guard_ = guard;
      supervisor_.AddOther(guard);
      const auto begun = Clock::now();
      const int status = WaitForGuard();
      if (WIFEXITED(status) || table_.program() == 0) {
        EndTls();
        return EndedRole{status};
      }
      DeadGuard before = Before(status);
      supervisor_.TakeOver(before.program, tls_);
      pause = Clock::now() - begun >= kShortLife
                  ? std::chrono::milliseconds(0)
                  : std::clamp(2 * pause, kFirstPause, kLongestPause);
      std::this_thread::sleep_for(pause);
      guard = MayLookBeside() ? ForkSharingDescriptors() : -1;
      if (guard < 0) {
        return SuccessorRole{std::move(before)};
      }
      if (guard == 0) {
        return BeGuard(keeper, std::move(before));
      }
      // They are the guard's.
      (void)before.listener.Release();
      for (agent::KeptItem& item : before.items) {
        for (UniqueFd& fd : item.fds) {
          (void)fd.Release();
        }
      }
      beside_ = true;
    }
  }

 private:
  // Its status (waitpid(2)).
  int WaitForGuard() {
    std::array<pollfd, 4> watched{
        pollfd{.fd = supervisor_.signals_fd(), .events = POLLIN, .revents = 0},
        pollfd{.fd = own_end_.get(), .events = POLLIN, .revents = 0},
        pollfd{.fd = beside_ ? supervisor_.kill_fd() : -1, .events = POLLIN, .revents = 0},
        // Only ever POLLHUP: no task has the filter any more.
        pollfd{.fd = beside_ ? listener_.get() : -1, .events = 0, .revents = 0}};
    bool killing = false;
    for (;;) {
      if (const auto status = Reap(); status) {
        return *status;
      }
      if (killing) {
        supervisor_.SignalAll(SIGKILL);
      }
      (void)poll(watched.data(), watched.size(), killing ? kKillAgainMs : -1);
      if (watched[1].revents != 0) {
        Hear(true);
      }
      if (watched[2].revents != 0) {
        killing = true;
        watched[2].fd = -1;
      }
      if (watched[3].revents != 0) {
        killing = false;
        watched[2].fd = -1;
        watched[3].fd = -1;
      }
      if (beside_) {
        supervisor_.PassSignalsOn();
      } else {
        supervisor_.PassSignalsOn(guard_, table_.program());
      }
    }
  }

  // Waits for who has ended. The guard's status, when that has. What it leaves behind is this
  // process's a moment before that, and not waited for until then.
  std::optional<int> Reap() {
    int status = 0;
    if (waitpid(guard_, &status, WNOHANG) == guard_) {
      return status;
    }
    if (!beside_) {
      std::erase_if(tls_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) == pid; });
      return std::nullopt;
    }
    for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid == guard_) {
        return status;
      }
      tls_.erase(pid);
      supervisor_.Ended(pid, status);
    }
    return std::nullopt;
  }

  // Numbers of descriptors: lines that are to be served (RunStore::SpawnTls).
  void Hear(bool starts) {
    for (int number = -1;
         recv(own_end_.get(), &number, sizeof number, MSG_DONTWAIT) == sizeof number && starts;) {
      if (const pid_t started = StartTls(UniqueFd(number)); started > 0) {
        tls_.insert(started);
        supervisor_.AddOther(started);
      }
    }
  }

  // What is there for who takes its place.
  DeadGuard Before(int status) {
    Hear(false);
    DeadGuard before{
        .items = table_.TakeAll(), .program = table_.program(), .listener = {}, .status = status};
    const auto found = std::ranges::find(before.items, kListenerName, &agent::KeptItem::name);
    if (found != before.items.end()) {
      before.listener = std::move(found->fds.front());
      before.items.erase(found);
    }
    if (!listener_) {
      listener_.Reset(fcntl(before.listener.get(), F_DUPFD_CLOEXEC, 0));
      table_.AddOwn(listener_.get());
    }
    return before;
  }

  // What it carries ends with what is kept.
  void EndTls() {
    table_.CloseAll();
    const auto end = Clock::now() + kTlsEndsWithin;
    for (const pid_t pid : tls_) {
      while (waitpid(pid, nullptr, WNOHANG) == 0) {
        if (Clock::now() >= end) {
          kill(pid, SIGKILL);
          (void)waitpid(pid, nullptr, 0);
          break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    tls_.clear();
  }

  Supervisor& supervisor_;
  const std::unique_ptr<RunTable> mapped_;
  RunTable& table_;
  const UniqueFd own_end_;
  const UniqueFd guards_end_;
  UniqueFd listener_;
  pid_t guard_ = -1;
  bool beside_ = false;  // the program is this process's child
  std::set<pid_t> tls_;
};

// In the first guard: false when the keeper has ended.
bool MayBegin(int line_fd, pid_t keeper) {
  char go = 0;
  pollfd line = {line_fd, POLLIN, 0};
  while (poll(&line, 1, kLooksAgainMs) <= 0) {
    if (getppid() != keeper) {
      return false;  // it has an end of the line, as this process has
    }
  }
  return recv(line_fd, &go, 1, MSG_DONTWAIT) == 1;
}

}  // namespace

Expected<RunRole> SplitRun(Supervisor& supervisor) {
  auto table = RunTable::Create();
  std::array<int, 2> ends{};
  if (!table || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return table ? ErrnoError("socketpair") : std::unexpected(std::move(table.error()));
  }
  RunTable& shared = **table;
  auto& run = *new RunKeeper(supervisor, std::move(*table), UniqueFd(ends[0]), UniqueFd(ends[1]));
  const pid_t keeper = getpid();
  const pid_t guard = ForkSharingDescriptors();
  if (guard < 0) {
    return ErrnoError("fork");
  }
  if (guard == 0) {
    // The keeper is out of reach before there is a program that could reach for it.
    if (!MayBegin(run.guards_end(), keeper)) {
      return MakeError(ECHILD, "the keeper has ended");
    }
    return run.BeGuard(keeper, std::nullopt);
  }
  auto signals = supervisor.TakeSignals();
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (!signals) {
    return std::unexpected(std::move(signals.error()));
  }
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return ErrnoError("prctl(PR_SET_DUMPABLE)");
  }
  shared.NoteOwn();
  const char go = 'g';
  if (send(run.own_end(), &go, 1, MSG_NOSIGNAL) != 1) {
    return ErrnoError("start the guard");
  }
  return run.Run(guard);
}

}  // namespace oakum::cli
