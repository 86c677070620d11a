#include "cli/run_tls.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/proxy/tls_service.h"
#include "agent/server/privileges.h"

namespace oakum::cli {

namespace {

constexpr int kLineFd = STDERR_FILENO + 1;

// Signals are those of a program that was just started, but for those that a terminal or somebody
// who means the whole of `oakum run` sends.
void TakeNoSignals() {
  sigset_t none;
  sigemptyset(&none);
  for (const int number : {SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2}) {
    (void)signal(number, SIG_IGN);
  }
  (void)sigprocmask(SIG_SETMASK, &none, nullptr);
}

// What the keeper shares with guards is none of its business.
void ForgetSharedMemory() {
  std::ifstream maps("/proc/self/maps");
  std::vector<std::pair<uintptr_t, uintptr_t>> shared;
  std::string line;
  while (std::getline(maps, line)) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    std::array<char, 5> access{};
    if (sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, access.data()) == 3 &&
        std::string_view(access.data()) == "rw-s") {
      shared.emplace_back(begin, end);
    }
  }
  for (const auto& [begin, end] : shared) {
    (void)munmap(reinterpret_cast<void*>(begin), end - begin);
  }
}

}  // namespace

pid_t StartTls(UniqueFd line) {
  const pid_t pid = fork();
  if (pid != 0) {
    return pid;
  }
  (void)setsid();
  TakeNoSignals();
  // What is kept is the keeper's alone: a copy would hold it open.
  if (dup2(line.get(), kLineFd) != kLineFd || close_range(kLineFd + 1, ~0U, 0) != 0) {
    _exit(EXIT_FAILURE);
  }
  ForgetSharedMemory();
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    (void)dup2(nothing, fd);
  }
  (void)close(nothing);
  const bool served = agent::GiveUpPrivileges(agent::Keeps::kNothing) &&
                      agent::RunTlsProcess(UniqueFd(kLineFd), agent::MaxTlsConnections());
  _exit(served ? EXIT_SUCCESS : EXIT_FAILURE);
}

}  // namespace oakum::cli
