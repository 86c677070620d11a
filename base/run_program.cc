#include "base/run_program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/unique_fd.h"

namespace oakum {

namespace {

constexpr int kTimeoutMs = 10'000;
constexpr size_t kMaxOutput = size_t{64} << 10;

int Reap(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Reads until the end, for at most kTimeoutMs of silence.
Expected<std::string> ReadOutput(int fd) {
  std::string output;
  std::array<char, 4096> buffer;
  for (;;) {
    pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&watched, 1, kTimeoutMs) <= 0) {
      return MakeError(ETIMEDOUT, "it says nothing");
    }
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got < 0) {
      return ErrnoError("read");
    }
    if (got == 0) {
      return output;
    }
    output.append(buffer.data(), static_cast<size_t>(got));
    if (output.size() > kMaxOutput) {
      return MakeError(EFBIG, "it says too much");
    }
  }
}

}  // namespace

Expected<std::string> RunProgram(const std::vector<std::string>& command) {
  std::array<int, 2> fds{};
  if (pipe2(fds.data(), O_CLOEXEC) != 0) {
    return ErrnoError("pipe2");
  }
  const UniqueFd out(fds[0]);
  UniqueFd in(fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, in.get(), STDOUT_FILENO);
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  in.Reset();
  if (error != 0) {
    return ErrnoError(error, "cannot be run");
  }
  auto output = ReadOutput(out.get());
  if (!output) {
    kill(pid, SIGKILL);
  }
  const int status = Reap(pid);
  if (output && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
    return MakeError(EIO, fmt::format("it failed (wait status {:#x})", status));
  }
  return output;
}

}  // namespace oakum
