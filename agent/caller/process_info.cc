#include "agent/caller/process_info.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstring>
#include <string_view>
#include <utility>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::seconds kAskAgain{1};

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

// Where the random bytes of its program are, 0 where that cannot be told (of 32 bits, for one).
uint64_t RandomBytesOf(int directory_fd) {
  const UniqueFd file(openat(directory_fd, "auxv", O_RDONLY | O_CLOEXEC));
  std::array<std::array<uint64_t, 2>, 64> entries{};
  const ssize_t got = file ? read(file.get(), entries.data(), sizeof entries) : 0;
  for (size_t i = 0; (i + 1) * sizeof entries[0] <= static_cast<size_t>(std::max<ssize_t>(got, 0));
       ++i) {
    if (entries[i][0] == AT_RANDOM) {
      return entries[i][1];
    }
  }
  return 0;
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

void ProcessReader::Thread::FindMark(Time now) {
  mark = {};
  if (now < no_mark_before) {
    return;
  }
  no_mark_before = now + kAskAgain;
  const uint64_t address = RandomBytesOf(directory.get());
  if (address == 0 ||
      ReadMemory(tid, address, mark.bytes.data(), mark.bytes.size()) != mark.bytes.size()) {
    return;
  }
  mark.address = address;
  mark.read = true;
  no_mark_before = {};
}

bool ProcessReader::Thread::ShowsMark(const ProgramMark& seen) const {
  if (!mark.read) {
    return false;
  }
  if (seen.read && seen.address == mark.address) {
    return seen.bytes == mark.bytes;
  }
  auto now = mark.bytes;
  return ReadMemory(tid, mark.address, now.data(), now.size()) == now.size() && now == mark.bytes;
}

bool ProcessReader::Thread::Renew(Time now, const ProgramMark& seen) {
  Bytes<64> said_name;  // TASK_COMM_LEN is 16
  said_name.SetLength(pread(name.get(), said_name.buffer.data(), said_name.buffer.size(), 0));
  // proc_pid_stat(5): /proc/TID has the effective user of its thread.
  struct stat owner = {};
  if (said_name.length == 0 || fstat(directory.get(), &owner) != 0) {
    return false;
  }
  --said_name.length;  // the line feed
  const bool known = last != nullptr && now - last_read < kFresh;
  if (known && last_name == said_name.text() && last->uid == owner.st_uid && ShowsMark(seen)) {
    return true;
  }
  // First, so that a program that is executed meanwhile is noticed the next time.
  if (known) {
    FindMark(now);
  } else if (!ShowsMark(seen)) {
    mark = {};
  }
  last_read = now;
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

std::shared_ptr<const ProcessInfo> ProcessReader::Read(pid_t tid, uint64_t call,
                                                       const ProgramMark& seen) {
  const Time now = std::chrono::steady_clock::now();
  Thread& thread = threads_[static_cast<size_t>(tid) % kThreads];
  if (thread.tid != tid) {
    // Perhaps one of many that take turns, whose files are not worth being opened.
    thread = Thread();
    thread.tid = tid;
    return ReadProcessInfo(tid, true);
  }
  if (thread.last != nullptr && thread.last_call == call && now - thread.last_said < kFresh) {
    return thread.last;
  }
  thread.last_call = call;
  thread.last_said = now;
  // A thread that has ended under this number says ESRCH.
  if (thread.directory && thread.Renew(now, seen)) {
    return thread.last;
  }
  if (!thread.Open(tid)) {
    // Perhaps for want of descriptors: others need them more.
    threads_ = {};
    return ReadProcessInfo(tid, true);
  }
  thread.last_call = call;
  thread.last_said = now;
  return thread.Renew(now, seen) ? thread.last : nullptr;
}

uint64_t ProcessReader::MarkOf(pid_t tid) const {
  const Thread& thread = threads_[static_cast<size_t>(tid) % kThreads];
  return thread.tid == tid ? thread.mark.address : 0;
}

}  // namespace oakum::agent
