#include "agent/caller/process_info.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

std::string ReadLink(const std::string& path) {
  std::array<char, PATH_MAX> target;  // not the string's own: it would keep all of it
  const ssize_t length = readlink(path.c_str(), target.data(), target.size());
  return {target.data(), length > 0 ? static_cast<size_t>(length) : 0};
}

// Arguments are separated by NULs (proc_pid_cmdline(5)).
std::string ReadCommandLine(pid_t tid) {
  const UniqueFd fd(open(fmt::format("/proc/{}/cmdline", tid).c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, kMaxCommandLine> buffer;
  const ssize_t length = fd ? read(fd.get(), buffer.data(), buffer.size()) : 0;
  std::string text(buffer.data(), length > 0 ? static_cast<size_t>(length) : 0);
  while (!text.empty() && text.back() == '\0') {
    text.pop_back();
  }
  std::ranges::replace(text, '\0', ' ');
  return text;
}

}  // namespace

std::shared_ptr<const ProcessInfo> ReadProcessInfo(pid_t tid, bool with_memory) {
  auto status = ReadTaskStatus(tid);
  if (!status) {
    return nullptr;
  }
  auto info = std::make_shared<ProcessInfo>();
  info->pid = status->tgid;
  info->name = std::move(status->name);
  info->uid = status->euid;
  info->executable = ReadLink(fmt::format("/proc/{}/exe", tid));
  if (with_memory) {
    info->command_line = ReadCommandLine(tid);
  }
  return info;
}

}  // namespace oakum::agent
