#include "agent/caller/process_info.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

// What was read of a file, in a buffer of its own: for most calls it is what it was for the one
// before, and nothing has to be allocated to see that.
template <size_t N>
struct Bytes {
  std::array<char, N> buffer;
  size_t length = 0;

  [[nodiscard]] std::string_view text() const { return {buffer.data(), length}; }
  void SetLength(ssize_t got) { length = got > 0 ? static_cast<size_t>(got) : 0; }
};

void ReadLink(int directory_fd, const char* path, Bytes<PATH_MAX>& out) {
  out.SetLength(readlinkat(directory_fd, path, out.buffer.data(), out.buffer.size()));
}

// Arguments are separated by NULs (proc_pid_cmdline(5)).
void ReadCommandLine(int fd, Bytes<kMaxCommandLine>& out) {
  out.SetLength(fd >= 0 ? pread(fd, out.buffer.data(), out.buffer.size(), 0) : 0);
  while (out.length > 0 && out.buffer[out.length - 1] == '\0') {
    --out.length;
  }
  char* const end = out.buffer.data() + out.length;
  for (char* at = out.buffer.data(); at != end;) {
    at = static_cast<char*>(memchr(at, '\0', static_cast<size_t>(end - at)));
    if (at == nullptr) {
      break;
    }
    *at++ = ' ';
  }
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
  Bytes<PATH_MAX> executable;
  ReadLink(AT_FDCWD, fmt::format("/proc/{}/exe", tid).c_str(), executable);
  info->executable = executable.text();
  if (with_memory) {
    const UniqueFd file(open(fmt::format("/proc/{}/cmdline", tid).c_str(), O_RDONLY | O_CLOEXEC));
    Bytes<kMaxCommandLine> command_line;
    ReadCommandLine(file.get(), command_line);
    info->command_line = command_line.text();
  }
  return info;
}

bool ProcessReader::Thread::Open(pid_t thread_id) {
  *this = Thread();
  tid = thread_id;
  directory.Reset(open(fmt::format("/proc/{}", tid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  name = OpenBelow(directory, "comm");
  command_line = OpenBelow(directory, "cmdline");
  const auto status = ReadTaskStatus(tid);
  if (!directory || !name || !command_line || !status) {
    *this = Thread();
    return false;
  }
  group = status->tgid;
  return true;
}

bool ProcessReader::Thread::Renew() {
  Bytes<64> said_name;  // TASK_COMM_LEN is 16
  said_name.SetLength(pread(name.get(), said_name.buffer.data(), said_name.buffer.size(), 0));
  // proc_pid_stat(5): /proc/TID has the effective user of its thread.
  struct stat owner = {};
  if (said_name.length == 0 || fstat(directory.get(), &owner) != 0) {
    return false;
  }
  --said_name.length;  // the line feed
  Bytes<PATH_MAX> executable;
  ReadLink(directory.get(), "exe", executable);
  Bytes<kMaxCommandLine> arguments;
  ReadCommandLine(command_line.get(), arguments);
  if (last == nullptr || last_name != said_name.text() || last->uid != owner.st_uid ||
      last->executable != executable.text() || last->command_line != arguments.text()) {
    auto info = std::make_shared<ProcessInfo>();
    info->pid = group;
    info->name = EscapeName(said_name.text());
    info->uid = owner.st_uid;
    info->executable = executable.text();
    info->command_line = arguments.text();
    last = std::move(info);
    last_name = said_name.text();
  }
  return true;
}

std::shared_ptr<const ProcessInfo> ProcessReader::Read(pid_t tid) {
  Thread& thread = threads_[static_cast<size_t>(tid) % kThreads];
  if (thread.tid != tid) {
    // Perhaps one of many that take turns, whose files are not worth being opened.
    thread = Thread();
    thread.tid = tid;
    return ReadProcessInfo(tid, true);
  }
  // A thread that has ended under this number says ESRCH.
  if (thread.directory && thread.Renew()) {
    return thread.last;
  }
  if (!thread.Open(tid)) {
    // Perhaps for want of descriptors: others need them more.
    threads_ = {};
    return ReadProcessInfo(tid, true);
  }
  return thread.Renew() ? thread.last : nullptr;
}

}  // namespace oakum::agent
