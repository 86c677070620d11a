#include "agent/caller/native_unix.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "agent/caller/identity.h"
#include "base/file.h"

namespace oakum::agent {

namespace {

constexpr size_t kMaxProcFile = size_t{1024} * 1024;
constexpr size_t kMaxCgroups = 256;  // of one container
// Inode of the first cgroup namespace (include/linux/proc_ns.h, PROC_CGROUP_INIT_INO): only there
// paths begin at the root of the hierarchy.
constexpr ino_t kFirstCgroupNamespace = 0xEFFFFFFB;

std::string ReadProc(pid_t pid, std::string_view name) {
  auto text = ReadFile(fmt::format("/proc/{}/{}", pid, name), kMaxProcFile);
  return text ? std::move(*text) : std::string();
}

std::optional<std::pair<dev_t, ino_t>> NamespaceOf(std::string_view process,
                                                   std::string_view kind) {
  struct stat found = {};
  if (stat(fmt::format("/proc/{}/ns/{}", process, kind).c_str(), &found) != 0) {
    return std::nullopt;
  }
  return std::pair(found.st_dev, found.st_ino);
}

bool IsAtOrBelow(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

// Linux 6.1 is the first whose ping sockets run the programs of INET4_CONNECT and INET6_CONNECT
// (ping_v4_pre_connect(), net/ipv4/ping.c); TCP and UDP sockets do since 4.17.
bool KernelGuardsEverySocket() {
  utsname name = {};
  unsigned major = 0;
  unsigned minor = 0;
  if (uname(&name) != 0) {
    return false;
  }
  const std::string_view release(name.release);
  const auto [end, error] = std::from_chars(release.data(), release.data() + release.size(), major);
  if (error != std::errc() || *end != '.' ||
      std::from_chars(end + 1, release.data() + release.size(), minor).ec != std::errc()) {
    return false;
  }
  return major > 6 || (major == 6 && minor >= 1);
}

// Where the whole cgroup (v2) hierarchy is mounted, unified or hybrid; empty for nowhere.
std::string CgroupMountPoint() {
  for (const Mount& mount : ParseMounts(ReadProc(getpid(), "mountinfo"))) {
    if (mount.type == "cgroup2" && mount.root == "/") {
      return mount.point;
    }
  }
  return {};
}

// Whether all processes in `directory` and below have `pid_namespace`. Threads of a process may be
// in different cgroups below (cgroups(7), "Thread mode"); the processes are still listed.
bool HoldsOnly(const std::string& directory, const std::pair<dev_t, ino_t>& pid_namespace,
               size_t& cgroups_left) {
  if (cgroups_left-- == 0) {
    return false;
  }
  const auto processes = ReadFile(directory + "/cgroup.procs", kMaxProcFile);
  if (!processes) {
    return false;
  }
  for (std::string_view rest = *processes; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view process = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto found = NamespaceOf(process, "pid");
    // A process that has just ended has no namespaces any more.
    if (found ? *found != pid_namespace
              : access(fmt::format("/proc/{}/exe", process).c_str(), F_OK) == 0) {
      return false;
    }
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(directory.c_str()), closedir);
  if (entries == nullptr) {
    return false;
  }
  while (const dirent* entry = readdir(entries.get())) {
    const std::string_view name(entry->d_name);
    if (entry->d_type == DT_DIR && name != "." && name != ".." &&
        !HoldsOnly(fmt::format("{}/{}", directory, name), pid_namespace, cgroups_left)) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string UnifiedCgroup(std::string_view proc_cgroup) {
  constexpr std::string_view kLine = "0::";
  while (!proc_cgroup.empty()) {
    const size_t end = std::min(proc_cgroup.find('\n'), proc_cgroup.size());
    const std::string_view line = proc_cgroup.substr(0, end);
    if (line.starts_with(kLine)) {
      return std::string(line.substr(kLine.size()));
    }
    proc_cgroup.remove_prefix(std::min(end + 1, proc_cgroup.size()));
  }
  return {};
}

bool ShowsMoreCgroups(const std::vector<Mount>& mounts, std::string_view cgroup) {
  return std::ranges::any_of(mounts, [&](const Mount& mount) {
    return mount.type == "cgroup2" && !mount.read_only && !IsAtOrBelow(mount.root, cgroup);
  });
}

std::optional<uint64_t> NativeUnix::Guard(pid_t tid) {
  const pid_t first = pid_ > 0 ? pid_ : tid;
  const std::string process = std::to_string(first);
  if (!KernelGuardsEverySocket()) {
    return std::nullopt;
  }
  // Without a pid namespace of its own, nobody can say whose the processes of a cgroup are.
  const auto pid_namespace = NamespaceOf(process, "pid");
  const auto cgroup_namespace = NamespaceOf("self", "cgroup");
  if (!pid_namespace || pid_namespace == NamespaceOf("self", "pid") || !cgroup_namespace ||
      cgroup_namespace->second != kFirstCgroupNamespace) {
    return std::nullopt;
  }
  // With CAP_SYS_ADMIN it could mount the hierarchy and move out. In a user namespace of its own it
  // could not (cgroup_init_fs_context(): the capability counts in the cgroup namespace's owner).
  const auto status = ReadTaskStatus(first);
  if (!status || (InOwnUserNamespace(first) &&
                  (status->bounding_capabilities & CapabilityBit(CAP_SYS_ADMIN)) != 0)) {
    return std::nullopt;
  }
  cgroup_ = UnifiedCgroup(ReadProc(first, "cgroup"));
  const std::string own = UnifiedCgroup(ReadProc(getpid(), "cgroup"));
  if (cgroup_.size() < 2 || cgroup_.contains("/..") || cgroup_.contains(" (deleted)") ||
      own.empty() || IsAtOrBelow(own, cgroup_)) {
    return std::nullopt;
  }
  const std::string mount_point = CgroupMountPoint();
  if (mount_point.empty() || ShowsMoreCgroups(ParseMounts(ReadProc(first, "mountinfo")), cgroup_)) {
    return std::nullopt;
  }
  const std::string directory = mount_point + cgroup_;
  size_t cgroups_left = kMaxCgroups;
  if (!HoldsOnly(directory, *pid_namespace, cgroups_left)) {
    return std::nullopt;
  }
  const UniqueFd cgroup(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd root(open(mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto id = cgroup ? CgroupId(cgroup.get()) : Expected<uint64_t>(ErrnoError("open"));
  if (!id || !root || std::ranges::count(cgroup_, '/') > kMaxGuardedLevel) {
    return std::nullopt;
  }
  // CAP_SYS_ADMIN stands for the other two (bpf(2)) where only that is permitted.
  const ScopedCapabilities raised(CapabilityBit(CAP_BPF) | CapabilityBit(CAP_NET_ADMIN) |
                                      CapabilityBit(CAP_SYS_ADMIN) | kPerformerCapabilities,
                                  kPerformerCapabilities);
  return cgroups_->Add(root.get(), *id) ? std::optional(*id) : std::nullopt;
}

bool NativeUnix::IsGuarded(pid_t tid) {
  if (suspended_) {
    return false;
  }
  if (state_ == State::kUntried) {
    guarded_ = Guard(tid);
    state_ = guarded_ ? State::kGuarded : State::kRefused;
  }
  // A caller that was put somewhere else is not held by the guard.
  return state_ == State::kGuarded && IsAtOrBelow(UnifiedCgroup(ReadProc(tid, "cgroup")), cgroup_);
}

bool NativeUnix::AllowsConnect(pid_t tid, const TaskStatus& status) {
  const std::lock_guard lock(mutex_);
  return IsGuarded(tid) || owners_.Owns(tid, status);
}

bool NativeUnix::AllowsListen(pid_t tid, const TaskStatus& status) {
  const std::lock_guard lock(mutex_);
  return owners_.Owns(tid, status);
}

void NativeUnix::Suspend() {
  const std::lock_guard lock(mutex_);
  suspended_ = true;
  if (guarded_) {
    cgroups_->Remove(*guarded_);
    guarded_.reset();
    state_ = State::kUntried;
  }
}

void NativeUnix::Resume() {
  const std::lock_guard lock(mutex_);
  suspended_ = false;
}

}  // namespace oakum::agent
