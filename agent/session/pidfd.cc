#include "agent/session/pidfd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/shortage.h"

namespace oakum::agent {

pid_t PidOf(int pidfd) {
  constexpr size_t kMaxInfo = 4096;
  constexpr std::string_view kKey = "\nPid:\t";
  const std::string path = fmt::format("/proc/self/fdinfo/{}", pidfd);
  auto text = ReadFile(path, kMaxInfo);
  for (ShortageWait room; !text && room.Again(text.error().code);) {
    text = ReadFile(path, kMaxInfo);
  }
  const size_t at = text ? text->find(kKey) : std::string::npos;
  pid_t pid = 0;
  if (at != std::string::npos) {
    const char* begin = text->data() + at + kKey.size();
    (void)std::from_chars(begin, text->data() + text->size(), pid);
  }
  return pid > 0 ? pid : 0;
}

UniqueFd AnotherPidfd(int pidfd) {
  UniqueFd another(static_cast<int>(syscall(SYS_pidfd_open, PidOf(pidfd), 0)));
  // A process that has not ended by now had its number all the time (pidfd_open(2)).
  pollfd ended = {pidfd, POLLIN, 0};
  if (!another || poll(&ended, 1, 0) != 0) {
    another.Reset(fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  }
  return another;
}

}  // namespace oakum::agent
