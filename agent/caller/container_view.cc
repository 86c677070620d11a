#include "agent/caller/container_view.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <future>
#include <memory>
#include <system_error>
#include <thread>

#include "agent/caller/identity.h"
#include "base/shortage.h"

namespace oakum::agent {

namespace {

constexpr std::string_view kDeleted = " (deleted)";  // d_path(9), of a file without a name

int OpenAt(int root_fd, const std::string& path) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = root_fd >= 0 ? RESOLVE_IN_ROOT : RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(
      syscall(SYS_openat2, root_fd >= 0 ? root_fd : AT_FDCWD, path.c_str(), &how, sizeof how));
}

const Mount* FindMount(const std::vector<Mount>& mounts, uint64_t id) {
  const auto found = std::ranges::find(mounts, id, &Mount::id);
  return found != mounts.end() ? &*found : nullptr;
}

std::string ReadRegular(int root_fd, const std::string& path, size_t limit) {
  // Looked at before it is opened: opening a device or a pipe does something.
  const UniqueFd found(OpenAt(root_fd, path));
  struct stat status = {};
  if (!found || fstat(found.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return {};
  }
  const UniqueFd file(
      open(fmt::format("/proc/self/fd/{}", found.get()).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(limit, '\0');
  size_t size = 0;
  while (file && size < limit) {
    const ssize_t got = read(file.get(), text.data() + size, limit - size);
    if (got <= 0) {
      break;
    }
    size += static_cast<size_t>(got);
  }
  text.resize(size);
  text.shrink_to_fit();  // it is kept as long as the container
  return text;
}

}  // namespace

std::string ReadLinkTarget(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  return {target, length > 0 ? static_cast<size_t>(length) : 0};
}

std::string BelowRoot(std::string path, const std::string& root) {
  if (root.size() > 1 && path.starts_with(root) &&
      (path.size() == root.size() || path[root.size()] == '/')) {
    path.erase(0, root.size());
  }
  return path.empty() ? "/" : path;
}

ContainerView::ContainerView(pid_t pid) {
  if (pid > 0) {
    std::call_once(adopted_, [&] { Adopt(pid); });
  }
}

void ContainerView::Adopt(pid_t pid) {
  const std::string link = fmt::format("/proc/{}/root", pid);
  root_.Reset(open(link.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  root_path_ = ReadLinkTarget(link);
  namespace_ = MountNamespaceOf(pid);
  OpenMounts(pid);
}

ContainerView::ContainerView(pid_t pid, ContainerOrigin origin) {
  if (!origin.root) {
    // Nobody knows what it began with: the first caller's root counts, as ever then.
    remembered_ = std::move(origin.remembered);
    return;
  }
  std::call_once(adopted_, [&] {
    root_ = std::move(origin.root);
    root_path_ = std::move(origin.root_path);
    namespace_ = origin.mounts;
    remembered_ = std::move(origin.remembered);
    // A process shows the mounts of its own namespace, below its own root (proc_pid_mountinfo(5)).
    const UniqueFd now(
        pid > 0 ? open(fmt::format("/proc/{}/root", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)
                : -1);
    if (now && namespace_ && MountNamespaceOf(pid) == namespace_ &&
        IdentityOf(now.get()) == IdentityOf(root_.get())) {
      OpenMounts(pid);
    }
  });
}

std::vector<RememberedFile> ContainerView::Remembered() const {
  const std::lock_guard lock(mutex_);
  return remembered_;
}

std::optional<ContainerOrigin> ContainerView::Origin() const {
  UniqueFd root(root_ ? fcntl(root_.get(), F_DUPFD_CLOEXEC, 0) : -1);
  if (!root) {
    return std::nullopt;
  }
  return ContainerOrigin{std::move(root), root_path_, namespace_, Remembered()};
}

void ContainerView::OpenMounts(pid_t pid) {
  const std::lock_guard lock(mutex_);
  if (auto table = MountTable::Open(pid); table) {
    mounts_.emplace(std::move(*table));
  }
  if (auto table = MountTable::Open(getpid()); table) {
    own_mounts_.emplace(std::move(*table));
  }
}

std::optional<ContainerView::Namespace> ContainerView::MountNamespaceOf(pid_t pid) {
  struct stat found = {};
  if (stat(fmt::format("/proc/{}/ns/mnt", pid).c_str(), &found) != 0) {
    return std::nullopt;
  }
  return Namespace{found.st_dev, found.st_ino};
}

std::optional<ContainerView::Identity> ContainerView::IdentityOf(int fd) {
  struct statx file = {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &file) != 0) {
    return std::nullopt;
  }
  Identity identity{.device = makedev(file.stx_dev_major, file.stx_dev_minor),
                    .inode = file.stx_ino};
  if ((file.stx_mask & STATX_BTIME) != 0) {
    identity.birth_seconds = file.stx_btime.tv_sec;
    identity.birth_nanoseconds = file.stx_btime.tv_nsec;
  }
  return identity;
}

std::optional<ContainerView::Identity> ContainerView::Find(int root_fd, const std::string& path) {
  const UniqueFd file(OpenAt(root_fd, path));
  return file ? IdentityOf(file.get()) : std::nullopt;
}

Expected<std::vector<ContainerView::Identity>> ContainerView::FindDenied(
    const std::string& path) const {
  std::vector<Identity> files;
  for (const int root_fd : {root_.get(), -1}) {
    // Without a root of its own the container's path could only be looked up in the agent's.
    errno = 0;
    if (const auto found = Find(root_fd, path); !found && IsShortage(errno)) {
      return ErrnoError(path);
    } else if (found && std::ranges::find(files, *found) == files.end()) {
      files.push_back(*found);
    }
  }
  return files;
}

void ContainerView::Keep(const std::string& path, const std::vector<Identity>& files) {
  for (const Identity& file : files) {
    const bool known = std::ranges::any_of(remembered_, [&](const Denied& denied) {
      return denied.file == file && denied.path == path;
    });
    if (!known && remembered_.size() < kMaxRemembered) {
      remembered_.push_back({path, file});
    }
  }
}

bool ContainerView::Remember(const policy::Policy& policy) {
  bool all = true;
  for (const std::string& path : policy.denied_unix_paths()) {
    if (const auto files = FindDenied(path); files) {
      const std::lock_guard lock(mutex_);
      Keep(path, *files);
    } else {
      all = false;
    }
  }
  return all;
}

std::string ContainerView::ReadFile(const std::string& path, size_t limit) const {
  struct Reading {
    UniqueFd root;
    std::string path;
    size_t limit;
    std::promise<std::string> text;
  };
  static std::atomic<int> waiting{0};
  const auto reading =
      std::make_shared<Reading>(UniqueFd(root_ ? fcntl(root_.get(), F_DUPFD_CLOEXEC, 0) : -1), path,
                                limit, std::promise<std::string>());
  if (!reading->root) {
    return {};
  }
  if (waiting.fetch_add(1) >= kMaxHeldUp) {
    --waiting;
    return {};
  }
  auto text = reading->text.get_future();
  try {
    // May be held up for ever; nobody waits for it that long.
    std::thread([reading] {
      reading->text.set_value(ReadRegular(reading->root.get(), reading->path, reading->limit));
      --waiting;
    }).detach();
  } catch (const std::system_error&) {
    --waiting;
    return {};
  }
  return text.wait_for(kReadsWithin) == std::future_status::ready ? text.get() : std::string();
}

bool ContainerView::AppendMountNames(pid_t tid, uint64_t mount_id, const std::string& path,
                                     std::vector<std::string>& inside,
                                     std::vector<std::string>& out) {
  const std::lock_guard lock(mutex_);
  if (!mounts_ || !own_mounts_) {
    return false;
  }
  // The file is held open, so its mount keeps its number; the tables are read after it was opened.
  const std::vector<Mount>& mounts = mounts_->Now();
  FilePlace place;
  const Mount* mount = FindMount(mounts, mount_id);
  bool placed = mount != nullptr && PlaceOf(*mount, BelowRoot(path, root_path_), place);
  if (!placed) {
    // A mount namespace of the program's own.
    auto table = MountTable::Open(tid);
    if (table) {
      mount = FindMount(table->Now(), mount_id);
      const std::string root = ReadLinkTarget(fmt::format("/proc/{}/root", tid));
      placed = mount != nullptr && PlaceOf(*mount, BelowRoot(path, root), place);
    }
  }
  if (!placed || !AppendNames(mounts, place, inside)) {
    return false;
  }
  out.insert(out.end(), inside.begin(), inside.end());
  return AppendNames(own_mounts_->Now(), place, out);
}

int ContainerView::Name(pid_t tid, const policy::Policy* policy, int inode_fd, SocketNames& out) {
  std::call_once(adopted_, [&] { Adopt(tid); });
  struct statx file = {};
  // The number of links is read before the name: a second name that is taken away in between shows
  // in one or in the other.
  if (statx(inode_fd, "", AT_EMPTY_PATH, STATX_NLINK | STATX_MNT_ID, &file) != 0) {
    return errno;
  }
  const std::string path = ReadLinkTarget(fmt::format("/proc/self/fd/{}", inode_fd));
  out.name = BelowRoot(path, root_path_);
  out.shown = out.name;
  const bool guards = policy != nullptr && policy->guards_unix();
  const bool deleted = path.ends_with(kDeleted);
  if (!guards && !deleted) {
    return 0;
  }
  const ScopedCapabilities raised(CapabilityBit(CAP_DAC_READ_SEARCH) | kPerformerCapabilities,
                                  kPerformerCapabilities);
  const auto identity = IdentityOf(inode_fd);
  if (!identity || (deleted && Find(root_.get(), out.name) != identity)) {
    return ENOENT;
  }
  if (!guards) {
    return 0;
  }
  out.more_names = file.stx_nlink > 1;
  const bool at_home = namespace_ && MountNamespaceOf(tid) == namespace_;
  std::vector<std::string> inside;
  if (!at_home || policy->denies_unix_patterns()) {
    out.more_names =
        !AppendMountNames(tid, file.stx_mnt_id, path, inside, out.aliases) || out.more_names;
  }
  if (!at_home) {
    out.aliases.push_back(std::move(out.name));
    const auto found = std::ranges::find_if(
        inside, [&](const std::string& name) { return Find(root_.get(), name) == identity; });
    out.name = found != inside.end() ? *found : std::string();
  } else if (policy->denies_unix_by_default() && Find(root_.get(), out.name) != identity) {
    out.name.clear();  // hidden by a mount: what the rule allows is something else
  }
  for (const std::string& denied : policy->denied_unix_paths()) {
    const auto files = FindDenied(denied);
    if (!files) {
      return files.error().code;
    }
    const std::lock_guard lock(mutex_);
    Keep(denied, *files);
    const bool is_denied = std::ranges::any_of(remembered_, [&](const Denied& known) {
      return known.path == denied && known.file == *identity;
    });
    if (is_denied || std::ranges::find(*files, *identity) != files->end()) {
      out.aliases.push_back(denied);
    }
  }
  return 0;
}

}  // namespace oakum::agent
