#include "agent/caller/mount_table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/file.h"

namespace oakum::agent {

namespace {

// fs/proc_namespace.c writes a line for each mount; sysctl fs.mount-max allows 100,000.
constexpr size_t kMaxMountInfo = size_t{64} * 1024 * 1024;
// A file has a name for each mount that shows it.
constexpr size_t kMaxNames = 1024;

std::string_view TakeField(std::string_view& line) {
  const size_t end = std::min(line.find(' '), line.size());
  const std::string_view field = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return field;
}

// seq_path() writes space, tab, newline and backslash as \ooo.
std::string Unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, value, 8).ptr == &text[i + 1] + 3) {
      out.push_back(static_cast<char>(value));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::optional<Mount> ParseMount(std::string_view line) {
  Mount mount;
  const std::string_view id = TakeField(line);
  if (std::from_chars(id.data(), id.data() + id.size(), mount.id).ec != std::errc()) {
    return std::nullopt;
  }
  TakeField(line);  // parent
  mount.device = TakeField(line);
  mount.root = Unescape(TakeField(line));
  mount.point = Unescape(TakeField(line));
  const std::string_view options = TakeField(line);
  mount.read_only = options == "ro" || options.starts_with("ro,");
  // Optional fields end with "-".
  while (!line.empty() && TakeField(line) != "-") {
  }
  mount.type = TakeField(line);
  if (mount.type.empty()) {
    return std::nullopt;
  }
  return mount;
}

// What of `path` lies below `directory`, with a leading "/" or empty; nothing if it does not.
std::optional<std::string_view> Below(std::string_view path, std::string_view directory) {
  if (directory == "/") {
    return path == "/" ? std::string_view() : path;
  }
  if (!path.starts_with(directory)) {
    return std::nullopt;
  }
  path.remove_prefix(directory.size());
  if (!path.empty() && path.front() != '/') {
    return std::nullopt;
  }
  return path;
}

std::string Join(std::string_view directory, std::string_view rest) {
  std::string path(directory == "/" && !rest.empty() ? std::string_view() : directory);
  path.append(rest);
  return path;
}

}  // namespace

std::vector<Mount> ParseMounts(std::string_view mountinfo) {
  std::vector<Mount> mounts;
  while (!mountinfo.empty()) {
    const size_t end = std::min(mountinfo.find('\n'), mountinfo.size());
    if (auto mount = ParseMount(mountinfo.substr(0, end)); mount) {
      mounts.push_back(std::move(*mount));
    }
    mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
  }
  return mounts;
}

bool PlaceOf(const Mount& mount, std::string_view path, FilePlace& out) {
  const auto rest = Below(path, mount.point);
  if (!rest) {
    return false;
  }
  out = {mount.device, Join(mount.root, *rest)};
  return true;
}

bool AppendNames(const std::vector<Mount>& mounts, const FilePlace& place,
                 std::vector<std::string>& out) {
  for (const Mount& mount : mounts) {
    if (mount.device != place.device) {
      continue;
    }
    const auto rest = Below(place.path, mount.root);
    if (!rest) {
      continue;
    }
    std::string name = Join(mount.point, *rest);
    if (std::ranges::find(out, name) != out.end()) {
      continue;
    }
    if (out.size() >= kMaxNames) {
      return false;
    }
    out.push_back(std::move(name));
  }
  return true;
}

Expected<MountTable> MountTable::Open(pid_t pid) {
  UniqueFd file(open(fmt::format("/proc/{}/mountinfo", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    return ErrnoError("open mountinfo");
  }
  return MountTable(std::move(file));
}

const std::vector<Mount>& MountTable::Now() {
  pollfd changed = {file_.get(), POLLPRI, 0};
  if (poll(&changed, 1, 0) == 0 && read_) {
    return mounts_;
  }
  mounts_.clear();
  read_ = lseek(file_.get(), 0, SEEK_SET) == 0;
  if (const auto text = ReadAll(file_.get(), kMaxMountInfo); text) {
    mounts_ = ParseMounts(*text);
  }
  return mounts_;
}

}  // namespace oakum::agent
