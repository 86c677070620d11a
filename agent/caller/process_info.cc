#include "agent/caller/process_info.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

std::string ReadLink(int directory_fd, const char* path) {
  std::array<char, PATH_MAX> target;  // not the string's own: it would keep all of it
  const ssize_t length = readlinkat(directory_fd, path, target.data(), target.size());
  return {target.data(), length > 0 ? static_cast<size_t>(length) : 0};
}

// Arguments are separated by NULs (proc_pid_cmdline(5)).
std::string ReadCommandLine(int fd) {
  std::array<char, kMaxCommandLine> buffer;
  const ssize_t length = fd >= 0 ? pread(fd, buffer.data(), buffer.size(), 0) : 0;
  std::string text(buffer.data(), length > 0 ? static_cast<size_t>(length) : 0);
  while (!text.empty() && text.back() == '\0') {
    text.pop_back();
  }
  std::ranges::replace(text, '\0', ' ');
  return text;
}

UniqueFd OpenBelow(const UniqueFd& directory, const char* name) {
  return UniqueFd(openat(directory.get(), name, O_RDONLY | O_CLOEXEC));
}

// As /proc/TID/status writes it (proc_task_name(), fs/proc/array.c).
std::string EscapeName(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c == '\n') {
      text += "\\n";
    } else if (c == '\\') {
      text += "\\\\";
    } else {
      text += c;
    }
  }
  return text;
}

bool SameInfo(const ProcessInfo& a, const ProcessInfo& b) {
  return a.pid == b.pid && a.uid == b.uid && a.name == b.name && a.executable == b.executable &&
         a.command_line == b.command_line;
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
  info->executable = ReadLink(AT_FDCWD, fmt::format("/proc/{}/exe", tid).c_str());
  if (with_memory) {
    const UniqueFd file(open(fmt::format("/proc/{}/cmdline", tid).c_str(), O_RDONLY | O_CLOEXEC));
    info->command_line = ReadCommandLine(file.get());
  }
  return info;
}

bool ProcessReader::Open(pid_t tid) {
  *this = ProcessReader();
  directory_.Reset(open(fmt::format("/proc/{}", tid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  name_ = OpenBelow(directory_, "comm");
  command_line_ = OpenBelow(directory_, "cmdline");
  const auto status = ReadTaskStatus(tid);
  if (!directory_ || !name_ || !command_line_ || !status) {
    return false;
  }
  tid_ = tid;
  group_ = status->tgid;
  return true;
}

bool ProcessReader::ReadInto(ProcessInfo& info) const {
  std::array<char, 64> name;  // TASK_COMM_LEN is 16
  const ssize_t length = pread(name_.get(), name.data(), name.size(), 0);
  // proc_pid_stat(5): /proc/TID has the effective user of its thread.
  struct stat owner = {};
  if (length <= 0 || fstat(directory_.get(), &owner) != 0) {
    return false;
  }
  info.pid = group_;
  info.name = EscapeName({name.data(), static_cast<size_t>(length - 1)});  // then a line feed
  info.uid = owner.st_uid;
  info.executable = ReadLink(directory_.get(), "exe");
  info.command_line = ReadCommandLine(command_line_.get());
  return true;
}

std::shared_ptr<const ProcessInfo> ProcessReader::Read(pid_t tid) {
  if (tid_ != tid) {
    // Perhaps one of many that take turns, whose files are not worth being opened.
    *this = ProcessReader();
    tid_ = tid;
    return ReadProcessInfo(tid, true);
  }
  ProcessInfo info;
  // A thread that has ended under this number says ESRCH.
  if (!directory_ || !ReadInto(info)) {
    if (!Open(tid)) {
      return ReadProcessInfo(tid, true);
    }
    if (!ReadInto(info)) {
      return nullptr;
    }
  }
  if (last_ == nullptr || !SameInfo(*last_, info)) {
    last_ = std::make_shared<const ProcessInfo>(std::move(info));
  }
  return last_;
}

}  // namespace oakum::agent
