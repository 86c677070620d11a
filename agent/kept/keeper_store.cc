#include "agent/kept/keeper_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "agent/kept/keeper_protocol.h"
#include "agent/unix_socket.h"
#include "base/trusted_path.h"

namespace oakum::agent {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenTries{5};
// A keeper answers at once; one that is being started takes a moment on a busy machine.
constexpr std::chrono::seconds kAnswersWithin{10};

// A keeper that many sessions have begun and ended for is behind for a moment.
constexpr int kTakesWithinMs = 100;

class KeeperStore final : public FdStore {
 public:
  explicit KeeperStore(UniqueFd socket) : socket_(std::move(socket)) {}

  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    auto sent = SendToPeer(socket_.get(), KeeperWord::kKeep, name, fds, MSG_DONTWAIT);
    pollfd room = {socket_.get(), POLLOUT, 0};
    if (!sent && sent.error().code == EAGAIN && poll(&room, 1, kTakesWithinMs) == 1) {
      sent = SendToPeer(socket_.get(), KeeperWord::kKeep, name, fds, MSG_DONTWAIT);
    }
    return sent ? std::move(sent)
                : std::unexpected(std::move(sent.error()).Context("hand over to the keeper"));
  }
  void Forget(const std::string& name) override {
    // One that does not fit is not missed: the keeper hears the listener hang up.
    (void)SendToPeer(socket_.get(), KeeperWord::kForget, name, {}, MSG_DONTWAIT);
  }

 private:
  const UniqueFd socket_;
};

// A process of this program that keeps. Its parent's signals, terminal and streams are not its own.
Expected<pid_t> Spawn(const std::string& agent_socket) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(
      &attributes,
      static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  std::string name = "oakum-keeper";
  std::string option = "--keeper=" + agent_socket;
  std::string life = kWhileNeededOption;
  std::array<char*, 4> arguments = {name.data(), option.data(), life.data(), nullptr};
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return ErrnoError(error, "start a keeper");
  }
  return pid;
}

Expected<UniqueFd> Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return MakeError(ENAMETOOLONG, fmt::format("keeper {}: the path is too long", path));
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) {
    return ErrnoError("socket");
  }
  const timeval limit = {kAnswersWithin.count(), 0};
  (void)setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoError(fmt::format("keeper {}", path));
  }
  if (const auto peer = PeerOf(socket.get()); !peer || !IsRootOrSelf(peer->uid)) {
    return MakeError(EPERM, fmt::format("keeper {}: it is another user's", path));
  }
  return socket;
}

// Nothing when this keeper ends, or serves another agent.
Expected<std::optional<OpenedStore>> Ask(const std::string& path, UniqueFd socket, bool& busy) {
  busy = false;
  if (!SendToPeer(socket.get(), KeeperWord::kHello, {}, {}, 0)) {
    return std::nullopt;
  }
  OpenedStore opened;
  for (;;) {
    auto message = ReceiveFromPeer(socket.get());
    if (!message && message.error().code == EAGAIN) {
      return MakeError(ETIMEDOUT, fmt::format("keeper {}: it does not answer", path));
    }
    if (!message && message.error().code != ECONNRESET) {
      return std::unexpected(std::move(message.error()).Context("keeper " + path));
    }
    if (!message || !*message) {
      return std::nullopt;
    }
    if ((*message)->version != kKeeperVersion) {
      return MakeError(ENOTSUP, fmt::format("keeper {}: it speaks version {}, this agent version "
                                            "{}: start an agent of its kind",
                                            path, (*message)->version, kKeeperVersion));
    }
    switch ((*message)->word) {
      case KeeperWord::kItem:
        opened.items.push_back({std::move((*message)->name), std::move((*message)->fds)});
        break;
      case KeeperWord::kReady:
        opened.store = std::make_unique<KeeperStore>(std::move(socket));
        return opened;
      case KeeperWord::kBusy:
        busy = true;
        return std::nullopt;
      case KeeperWord::kHello:
      case KeeperWord::kKeep:
      case KeeperWord::kForget:
        return MakeError(EPROTO, fmt::format("keeper {}: it speaks like an agent", path));
    }
  }
}

}  // namespace

Expected<OpenedStore> OpenKeeperStore(const std::string& agent_socket,
                                      std::chrono::milliseconds patience) {
  const std::string path = KeeperPath(agent_socket);
  const Clock::time_point start = Clock::now();
  pid_t child = -1;
  for (;;) {
    bool busy = false;
    auto socket = Connect(path);
    if (socket) {
      auto opened = Ask(path, std::move(*socket), busy);
      if (!opened) {
        return std::unexpected(std::move(opened.error()));
      }
      if (*opened) {
        return std::move(**opened);
      }
    } else if (socket.error().code != ECONNREFUSED && socket.error().code != ENOENT) {
      return std::unexpected(std::move(socket.error()));
    } else if (child < 0 || waitpid(child, nullptr, WNOHANG) == child) {
      auto spawned = Spawn(agent_socket);
      if (!spawned) {
        return std::unexpected(std::move(spawned.error()));
      }
      child = *spawned;
    }
    const auto waited = Clock::now() - start;
    if (busy && waited > patience) {
      return MakeError(EADDRINUSE, fmt::format("keeper {}: another agent listens there", path));
    }
    if (waited > kAnswersWithin) {
      return MakeError(ETIMEDOUT, fmt::format("keeper {}: it could not be started", path));
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

}  // namespace oakum::agent
