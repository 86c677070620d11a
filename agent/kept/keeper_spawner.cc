#include "agent/kept/keeper_spawner.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "agent/kept/keeper.h"
#include "agent/kept/keeper_protocol.h"
#include "agent/server/privileges.h"

namespace oakum::agent {

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
  const char one = 1;
  if (send(socket_.get(), &one, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
    return ErrnoError("the process that starts keepers is gone");
  }
  return {};
}

Expected<void> RunKeeperSpawner(const std::string& agent_socket, const Log& log) {
  (void)prctl(PR_SET_NAME, "oakum-spawner");
  (void)signal(SIGCHLD, SIG_IGN);  // nobody waits for them (wait(2))
  if (auto given_up = GiveUpPrivileges(Keeps::kNothing); !given_up) {
    return given_up;
  }
  for (char asked = 0;;) {
    const ssize_t got = read(STDIN_FILENO, &asked, 1);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      return {};
    }
    if (fork() == 0) {
      (void)setsid();
      (void)dup2(STDOUT_FILENO, STDIN_FILENO);
      return RunKeeper(KeeperPath(agent_socket), KeeperLife::kWhileNeeded, log);
    }
  }
}

}  // namespace oakum::agent
