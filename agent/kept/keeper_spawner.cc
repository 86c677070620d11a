#include "agent/kept/keeper_spawner.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <string_view>
#include <utility>

#include "agent/kept/keeper.h"
#include "agent/kept/keeper_protocol.h"
#include "agent/server/privileges.h"
#include "agent/server/send_descriptors.h"
#include "agent/server/unix_socket.h"

namespace oakum::agent {

namespace {

constexpr std::string_view kOne = "1";

}  // namespace

Expected<KeeperSpawner> KeeperSpawner::Start(const std::string& agent_socket) {
  std::array<int, 2> ends = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return ErrnoError("socketpair");
  }
  UniqueFd own(ends[0]);
  const UniqueFd its(ends[1]);
  // The agent's signals, terminal and streams are not its own.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, its.get(), STDIN_FILENO);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
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
  std::string spawner = kSpawnerOption;
  std::array<char*, 4> arguments = {name.data(), option.data(), spawner.data(), nullptr};
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return ErrnoError(error, "start what starts keepers");
  }
  return KeeperSpawner(std::move(own));
}

Expected<void> KeeperSpawner::Spawn() {
  if (send(socket_.get(), kOne.data(), kOne.size(), MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
    return ErrnoError("the process that starts keepers is gone");
  }
  return {};
}

Expected<void> KeeperSpawner::SpawnTls(int line_fd) const {
  return SendWithDescriptors(socket_.get(), kOne, std::span(&line_fd, 1), MSG_DONTWAIT);
}

Expected<void> RunKeeperSpawner(const std::string& agent_socket, const ServeTls& serve_tls,
                                const Log& log) {
  (void)prctl(PR_SET_NAME, "oakum-spawner");
  (void)signal(SIGCHLD, SIG_IGN);  // nobody waits for them (wait(2))
  if (auto given_up = GiveUpPrivileges(Keeps::kNothing); !given_up) {
    return given_up;
  }
  for (std::array<char, 1> asked{};;) {
    auto message = ReceiveMessage(STDIN_FILENO, asked);
    if (!message && (message.error().code == EINTR || message.error().code == EMFILE)) {
      continue;
    }
    if (!message || message->bytes == 0) {
      return {};
    }
    if (fork() == 0) {
      (void)setsid();
      (void)dup2(STDOUT_FILENO, STDIN_FILENO);
      return message->fds.empty()
                 ? RunKeeper(KeeperPath(agent_socket), KeeperLife::kWhileNeeded, log)
                 : serve_tls(std::move(message->fds.front()));
    }
  }
}

}  // namespace oakum::agent
