#include "agent/caller/task.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kcmp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "base/shortage.h"

// Linux 6.9; younger than the headers of Debian 12.
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

namespace oakum::agent {

namespace {

constexpr size_t kMaxStatus = size_t{256} * 1024;  // a process may be in 65,536 groups

// PIDFD_GET_INFO of Linux 6.13 (linux/pidfd.h), with its structure as it was then: the request says
// how long that is.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);
constexpr uint64_t kPidfdInfoPid = 1 << 0;
constexpr uint64_t kPidfdInfoCreds = 1 << 1;

int PidfdOpen(pid_t pid, unsigned flags) {
  return static_cast<int>(syscall(SYS_pidfd_open, pid, flags));
}

template <typename T>
std::string_view ParseNumber(std::string_view text, T& out, int base = 10) {
  const size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) {
    return {};
  }
  text.remove_prefix(start);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return text;
}

// More tasks than these are not looked at: it would take too long.
constexpr size_t kMaxTasksCompared = 512;
constexpr int kMaxLooks = 3;  // when tasks are made meanwhile

// The number of the newest task that the agent can see; it changes with each that is made
// (proc_loadavg(5)).
std::string NewestTask() {
  const auto text = ReadFile("/proc/loadavg", 256);
  const size_t last = text ? text->rfind(' ') : std::string::npos;
  return last != std::string::npos ? text->substr(last) : std::string();
}

// Whether it takes so many tasks for a number to come round again that it takes longer than
// TableOwners remembers.
bool NumbersLast() {
  constexpr unsigned long kFew = 32768;  // the kernel's default is this or more
  const auto text = ReadFile("/proc/sys/kernel/pid_max", 64);
  return text && strtoul(text->c_str(), nullptr, 10) >= kFew;
}

bool HasOtherTable(pid_t tid, pid_t other) {
  const long order = syscall(SYS_kcmp, tid, other, KCMP_FILES, 0, 0);
  if (order >= 0) {
    return order != 0;
  }
  if (errno == ESRCH) {
    return true;
  }
  // One that may not be looked at. A table that is shared was shared under the filter (execve(2)
  // ends the sharing), and nobody takes a filter off.
  const auto status = ReadTaskStatus(other);
  return status ? status->seccomp == 0 : status.error().code == ESRCH;
}

// Calls `visit` with each number in a directory of /proc until it returns false.
template <typename Visit>
bool ForEachNumber(const std::string& directory, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(directory.c_str()), closedir);
  if (entries == nullptr) {
    return errno == ENOENT;  // a process that has ended
  }
  while (const dirent* entry = readdir(entries.get())) {
    const std::string_view name(entry->d_name);
    pid_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size() && !visit(number)) {
      return false;
    }
  }
  return true;
}

}  // namespace

size_t ReadMemory(pid_t tid, uint64_t address, void* out, size_t size) {
  if (size == 0) {
    return 0;
  }
  const iovec local = {out, size};
  const iovec remote = {reinterpret_cast<void*>(address), size};  // NOLINT: another address space
  const ssize_t got = process_vm_readv(tid, &local, 1, &remote, 1, 0);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

size_t ReadMemoryVector(pid_t tid, std::span<const iovec> remote, void* out, size_t size) {
  size_t done = 0;
  while (!remote.empty() && done < size) {
    const auto part = remote.first(std::min<size_t>(remote.size(), UIO_MAXIOV));
    size_t wanted = 0;
    for (const iovec& piece : part) {
      wanted += piece.iov_len;
    }
    wanted = std::min(wanted, size - done);
    const iovec local = {static_cast<char*>(out) + done, wanted};
    const ssize_t got =
        wanted == 0 ? 0 : process_vm_readv(tid, &local, 1, part.data(), part.size(), 0);
    if (got < 0) {
      break;
    }
    done += static_cast<size_t>(got);
    if (static_cast<size_t>(got) < wanted) {
      break;
    }
    remote = remote.subspan(part.size());
  }
  return done;
}

bool WriteMemory(pid_t tid, uint64_t address, const void* data, size_t size) {
  if (size == 0) {
    return true;
  }
  const iovec local = {const_cast<void*>(data), size};  // NOLINT: process_vm_writev only reads it
  const iovec remote = {reinterpret_cast<void*>(address), size};  // NOLINT: another address space
  return process_vm_writev(tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

size_t WriteMemoryVector(pid_t tid, std::span<const iovec> remote, const void* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const iovec local = {const_cast<void*>(data), size};  // NOLINT: process_vm_writev only reads it
  const ssize_t put = process_vm_writev(tid, &local, 1, remote.data(), remote.size(), 0);
  return put > 0 ? static_cast<size_t>(put) : 0;
}

int DescriptorSource::Open(pid_t tid, UniqueFd& out) {
  if (thread_pidfds_) {
    out.Reset(PidfdOpen(tid, PIDFD_THREAD));
    if (out) {
      return 0;
    }
    if (errno != EINVAL) {
      return errno;
    }
    thread_pidfds_ = false;
  }
  const auto status = ReadTaskStatus(tid);
  if (!status) {
    return status.error().code;
  }
  // A pidfd of the group shows the leader's descriptor table. A thread made without CLONE_FILES has
  // another one; which socket it means cannot be told without PIDFD_THREAD.
  if (status->tgid != tid && syscall(SYS_kcmp, status->tgid, tid, KCMP_FILES, 0, 0) != 0) {
    return EPERM;
  }
  out.Reset(PidfdOpen(status->tgid, 0));
  return out ? 0 : errno;
}

int DescriptorSource::Get(pid_t tid, int fd, UniqueFd& out) {
  ShortageWait room;
  int error = 0;
  do {
    error = Fetch(tid, fd, out);
  } while (room.Again(error));
  if (IsShortage(error)) {
    error = ENOBUFS;
  }
  refused_ = refused_ || error == EPERM;
  return error;
}

int DescriptorSource::Fetch(pid_t tid, int fd, UniqueFd& out) {
  Slot& slot = slots_[static_cast<size_t>(tid) % kSlots];
  // Without PIDFD_THREAD a kept pidfd proves only that the group lives, not that the thread still
  // belongs to it and shares its table: open it each time.
  if (slot.tid == tid && slot.pidfd && thread_pidfds_) {
    out.Reset(static_cast<int>(syscall(SYS_pidfd_getfd, slot.pidfd.get(), fd, 0)));
    if (out) {
      return 0;
    }
    if (errno != ESRCH) {
      return errno;
    }
  }
  slot = {};
  if (const int error = Open(tid, slot.pidfd); error != 0) {
    return error;
  }
  slot.tid = tid;
  out.Reset(static_cast<int>(syscall(SYS_pidfd_getfd, slot.pidfd.get(), fd, 0)));
  return out ? 0 : errno;
}

pid_t DescriptorSource::GroupOf(pid_t tid) {
  Slot& slot = slots_[static_cast<size_t>(tid) % kSlots];
  if (slot.tid == tid && thread_pidfds_ && slot.group != 0) {
    return slot.group;
  }
  const auto status = ReadTaskStatus(tid);
  const pid_t group = status ? status->tgid : 0;
  if (slot.tid == tid) {
    slot.group = group;
  }
  return group;
}

std::optional<RealIds> DescriptorSource::IdsOf(pid_t tid) {
  const Slot& slot = slots_[static_cast<size_t>(tid) % kSlots];
  if (slot.tid != tid || !slot.pidfd || !thread_pidfds_ || !tells_ids_) {
    return std::nullopt;
  }
  constexpr uint64_t kWanted = kPidfdInfoPid | kPidfdInfoCreds;
  PidfdInfo info = {};
  info.mask = kWanted;
  if (ioctl(slot.pidfd.get(), kPidfdGetInfo, &info) != 0) {
    tells_ids_ = errno == ESRCH;
    return std::nullopt;
  }
  if ((info.mask & kWanted) != kWanted || info.tgid == 0) {
    return std::nullopt;
  }
  return RealIds{static_cast<pid_t>(info.tgid), info.ruid, info.rgid};
}

Expected<TaskStatus> ReadTaskStatus(pid_t tid) {
  auto text = ReadFile(fmt::format("/proc/{}/status", tid), kMaxStatus);
  if (!text) {
    return std::unexpected(std::move(text.error()));
  }
  TaskStatus out;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
      continue;
    }
    const std::string_view key = line.substr(0, colon);
    std::string_view value = line.substr(colon + 1);
    uid_t saved = 0;
    if (key == "Name") {
      out.name = value.substr(std::min<size_t>(1, value.size()));
    } else if (key == "Tgid") {
      ParseNumber(value, out.tgid);
    } else if (key == "Uid") {
      ParseNumber(ParseNumber(ParseNumber(ParseNumber(value, out.ruid), out.euid), saved),
                  out.fsuid);
    } else if (key == "Gid") {
      ParseNumber(ParseNumber(ParseNumber(ParseNumber(value, out.rgid), out.egid), saved),
                  out.fsgid);
    } else if (key == "Groups") {
      for (gid_t group = 0; value.find_first_not_of(" \t") != std::string_view::npos;) {
        value = ParseNumber(value, group);
        out.groups.push_back(group);
      }
    } else if (key == "Umask") {
      ParseNumber(value, out.umask, 8);
    } else if (key == "CapEff") {
      ParseNumber(value, out.effective_capabilities, 16);
    } else if (key == "CapBnd") {
      ParseNumber(value, out.bounding_capabilities, 16);
    } else if (key == "SigCgt") {
      ParseNumber(value, out.caught_signals, 16);
    } else if (key == "Threads") {
      ParseNumber(value, out.threads);
    } else if (key == "Seccomp") {
      ParseNumber(value, out.seccomp);
    }
  }
  if (out.tgid == 0) {
    return MakeError(ESRCH, fmt::format("/proc/{}/status has no Tgid", tid));
  }
  return out;
}

uint64_t ReadStartTime(pid_t pid) {
  constexpr int kField = 22;
  constexpr int kFirstAfterName = 3;  // the name, in parentheses, may hold anything
  const auto text = ReadFile(fmt::format("/proc/{}/stat", pid), 4096);
  const size_t name_end = text ? text->rfind(')') : std::string::npos;
  if (name_end == std::string::npos) {
    return 0;
  }
  std::string_view rest = std::string_view(*text).substr(name_end + 1);
  for (int field = kFirstAfterName; field < kField; ++field) {
    const size_t start = rest.find_first_not_of(' ');
    rest.remove_prefix(start == std::string_view::npos ? rest.size() : start);
    rest.remove_prefix(std::min(rest.find(' '), rest.size()));
  }
  uint64_t ticks = 0;
  ParseNumber(rest, ticks);
  return ticks;
}

bool OwnsDescriptorTable(pid_t tid, const TaskStatus& status) {
  if (status.threads != 1) {
    return false;
  }
  const std::string newest = NewestTask();
  size_t left = kMaxTasksCompared;
  const auto differs = [&](pid_t other) {
    return other == tid || (left-- > 0 && HasOtherTable(tid, other));
  };
  const bool alone = ForEachNumber("/proc", [&](pid_t process) {
    if (!differs(process)) {
      return false;
    }
    // proc_task_getattr(): a directory with a link for each thread.
    struct stat tasks = {};
    const std::string directory = fmt::format("/proc/{}/task", process);
    return stat(directory.c_str(), &tasks) != 0 || tasks.st_nlink <= 3 ||
           ForEachNumber(directory,
                         [&](pid_t other) { return other == process || differs(other); });
  });
  // A task that was made meanwhile may have been missed.
  return alone && !newest.empty() && newest == NewestTask();
}

bool TableOwners::Owns(pid_t tid, const TaskStatus& status) {
  Slot& slot = slots_[static_cast<size_t>(tid) % kSlots];
  const auto now = std::chrono::steady_clock::now();
  std::string newest = NewestTask();
  // Two tasks with different tables never come to share one: only a new task can. A number that is
  // used again is a new task, too.
  if (slot.tid == tid && now < slot.until && !newest.empty() && newest == slot.newest_task) {
    return true;
  }
  slot = {};
  for (int attempt = 0; attempt < kMaxLooks; ++attempt) {
    if (OwnsDescriptorTable(tid, status)) {
      if (NumbersLast()) {
        slot = {tid, std::move(newest), now + kRemember};
      }
      return true;
    }
    std::string next = NewestTask();
    if (status.threads != 1 || next == newest) {
      return false;
    }
    newest = std::move(next);
  }
  return false;
}

}  // namespace oakum::agent
