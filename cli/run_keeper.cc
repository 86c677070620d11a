#include "cli/run_keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "agent/kept/keeper_line.h"
#include "agent/kept/keeper_protocol.h"

namespace oakum::cli {

namespace {

using agent::KeeperWord;
using agent::KeptItem;

constexpr std::string_view kProgramPrefix = "program-";
// What is sent is safe: it is heard all at once after so long, since much of it is forgotten by
// then.
constexpr int kLullMs = 2;

// The guard's side. Where there is no keeper any more there is nobody to keep for.
class ParentStore final : public agent::FdStore {
 public:
  explicit ParentStore(UniqueFd socket) : line_(std::move(socket)) {}

  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    return UnlessGone(line_.Keep(name, fds));
  }
  Expected<void> TryKeep(const std::string& name, std::span<const int> fds) override {
    return UnlessGone(line_.TryKeep(name, fds));
  }
  void Forget(const std::string& name) override { line_.Forget(name); }

 private:
  static Expected<void> UnlessGone(Expected<void> kept) {
    return !kept && (kept.error().code == EPIPE || kept.error().code == ECONNRESET)
               ? Expected<void>()
               : kept;
  }

  agent::KeeperLine line_;
};

// The keeper's side.
class RunKeeper {
 public:
  RunKeeper(pid_t guard, UniqueFd socket) : guard_(guard), socket_(std::move(socket)) {}

  RunRole Wait(Supervisor& supervisor) {
    std::array<pollfd, 2> watched{
        pollfd{.fd = supervisor.signals_fd(), .events = POLLIN, .revents = 0},
        pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0}};
    int status = 0;
    while (waitpid(guard_, &status, WNOHANG) != guard_) {
      const bool hears = watched[1].fd >= 0;
      if (poll(watched.data(), watched.size(), hears || !socket_ ? -1 : kLullMs) == 0) {
        Hear();
        watched[1].fd = socket_.get();
      } else if (hears && watched[1].revents != 0) {
        watched[1].fd = -1;
      }
      supervisor.PassSignalsOn(guard_, program_);
    }
    Hear();
    if (WIFEXITED(status) || program_ < 0) {
      return EndedRole{status};
    }
    SuccessorRole successor{.items = {}, .program = program_, .listener = {}, .status = status};
    for (auto& [name, fds] : items_) {
      if (name.starts_with(kProgramPrefix)) {
        successor.listener = std::move(fds.front());
      } else {
        successor.items.push_back({name, std::move(fds)});
      }
    }
    return successor;
  }

 private:
  // All that has come; what a guard has sent is there although it has died.
  void Hear() {
    while (socket_) {
      auto message = agent::ReceiveFromPeer(socket_.get());
      if (!message && message.error().code == EAGAIN) {
        return;
      }
      if (!message || !*message) {
        socket_.Reset();  // its end, which SIGCHLD tells of
        return;
      }
      const std::string& name = (*message)->name;
      if ((*message)->word == KeeperWord::kForget) {
        items_.erase(name);
      } else if ((*message)->word == KeeperWord::kKeep && !(*message)->fds.empty()) {
        if (name.starts_with(kProgramPrefix)) {
          const std::string_view pid = std::string_view(name).substr(kProgramPrefix.size());
          std::from_chars(pid.data(), pid.data() + pid.size(), program_);
        }
        items_.insert_or_assign(name, std::move((*message)->fds));
      }
    }
  }

  const pid_t guard_;
  UniqueFd socket_;
  pid_t program_ = -1;
  std::map<std::string, std::vector<UniqueFd>> items_;
};

}  // namespace

Expected<RunRole> SplitRun(Supervisor& supervisor) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return ErrnoError("socketpair");
  }
  UniqueFd keeper_end(ends[0]);
  UniqueFd guard_end(ends[1]);
  const pid_t keeper = getpid();
  const pid_t guard = fork();
  if (guard < 0) {
    return ErrnoError("fork");
  }
  char go = 'g';
  if (guard == 0) {
    keeper_end.Reset();
    // The keeper is out of reach before there is a program that could reach for it.
    ssize_t got = 0;
    while ((got = recv(guard_end.get(), &go, 1, 0)) < 0 && errno == EINTR) {
    }
    if (got != 1) {
      return MakeError(ECHILD, "the keeper has ended");
    }
    return GuardRole{.store = std::make_unique<ParentStore>(std::move(guard_end)),
                     .keeper = keeper};
  }
  guard_end.Reset();
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
  if (send(keeper_end.get(), &go, 1, MSG_NOSIGNAL) != 1 ||
      fcntl(keeper_end.get(), F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError("start the guard");
  }
  return RunKeeper(guard, std::move(keeper_end)).Wait(supervisor);
}

Expected<void> KeepProgram(agent::FdStore& store, pid_t program, int listener_fd) {
  return store.Keep(fmt::format("{}{}", kProgramPrefix, program), std::span(&listener_fd, 1));
}

}  // namespace oakum::cli
