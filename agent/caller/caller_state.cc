#include "agent/caller/caller_state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>

namespace oakum::agent {

CallerWatch::CallerWatch(pid_t tid)
    : file_(open(fmt::format("/proc/{}/syscall", tid).c_str(), O_RDONLY | O_CLOEXEC)) {}

bool CallerWatch::IsUp() const {
  std::array<char, 256> text{};
  const ssize_t got = pread(file_.get(), text.data(), text.size(), 0);
  return got > 0 && std::string_view(text.data(), static_cast<size_t>(got)).starts_with("running");
}

bool SleepsThroughSignals(pid_t tid) {
  // That of the thread alone: /proc/TID/stat sums up all threads of its process.
  const UniqueFd file(
      open(fmt::format("/proc/{0}/task/{0}/stat", tid).c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 128> text{};
  const ssize_t got = file ? read(file.get(), text.data(), text.size()) : 0;
  if (got <= 0) {
    return false;
  }
  // The name is in parentheses and may have any byte in it.
  const std::string_view stat(text.data(), static_cast<size_t>(got));
  const size_t name_end = stat.rfind(") ");
  return name_end != std::string_view::npos && stat.substr(name_end + 2).starts_with('D');
}

}  // namespace oakum::agent
