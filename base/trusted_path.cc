#include "base/trusted_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <deque>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/uid_map.h"
#include "base/unique_fd.h"

namespace oakum {

namespace {

constexpr size_t kMaxUidMap = size_t{64} << 10;  // 340 lines at most (user_namespaces(7))
constexpr size_t kMaxNumber = 64;
constexpr uint64_t kAllUids = 0xffff'ffff;  // but -1, which is none
constexpr uid_t kUsualUnmapped = 65'534;
constexpr int kMaxLinks = 40;  // as path_resolution(7)

enum class Strictness : bool { kOnlyOurs, kNotEverybodys };

// The parts of a path that are still to be walked.
using Parts = std::deque<std::string>;

void Prepend(std::string_view path, Parts& parts) {
  Parts first;
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at && path.substr(at, end - at) != ".") {
      first.emplace_back(path.substr(at, end - at));
    }
    at = end + 1;
  }
  parts.insert(parts.begin(), first.begin(), first.end());
}

class Walk {
 public:
  Walk(const std::string& path, Strictness strictness, std::optional<uid_t> unmapped)
      : path_(path), strictness_(strictness), unmapped_(unmapped) {}

  Expected<void> Run() {
    if (!path_.starts_with('/')) {
      return MakeError(EINVAL, fmt::format("{}: not an absolute path", path_));
    }
    Prepend(path_, parts_);
    if (parts_.empty()) {
      return MakeError(EINVAL, fmt::format("{}: names no file", path_));
    }
    if (auto begun = ToRoot(); !begun) {
      return begun;
    }
    while (!parts_.empty()) {
      const std::string name = std::move(parts_.front());
      parts_.pop_front();
      // What is to be put there is nobody's yet; its directory has been looked at.
      if (parts_.empty() && strictness_ == Strictness::kOnlyOurs) {
        return {};
      }
      auto stepped = Step(name);
      if (!stepped) {
        if (stepped.error().code == ENOENT && strictness_ == Strictness::kOnlyOurs) {
          return {};  // ours to make, in a directory that has been looked at
        }
        return stepped;
      }
    }
    return {};
  }

 private:
  Expected<void> ToRoot() {
    at_.Reset(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    where_.clear();
    if (!at_) {
      return ErrnoError("open /");
    }
    struct stat status = {};
    if (fstat(at_.get(), &status) != 0) {
      return ErrnoError(fmt::format("{}: /", path_));
    }
    return Look(status);
  }

  Expected<void> Step(const std::string& name) {
    UniqueFd next(openat(at_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!next) {
      return ErrnoError(fmt::format("{}: {}/{}", path_, where_, name));
    }
    struct stat status = {};
    if (fstat(next.get(), &status) != 0) {
      return ErrnoError(fmt::format("{}: {}/{}", path_, where_, name));
    }
    if (S_ISLNK(status.st_mode)) {
      return Follow(next.get(), status, name);
    }
    where_ = name == ".." ? where_.substr(0, where_.rfind('/')) : where_ + "/" + name;
    at_ = std::move(next);
    return Look(status);
  }

  Expected<void> Follow(int link_fd, const struct stat& status, const std::string& name) {
    if (++links_ > kMaxLinks) {
      return ErrnoError(ELOOP, path_);
    }
    if (auto owned = CheckOwner(status, where_ + "/" + name); !owned) {
      return owned;
    }
    std::array<char, PATH_MAX> target;
    const ssize_t length = readlinkat(link_fd, "", target.data(), target.size());
    if (length < 0 || static_cast<size_t>(length) >= target.size()) {
      return ErrnoError(length < 0 ? errno : ENAMETOOLONG, fmt::format("{}/{}", where_, name));
    }
    const std::string_view text(target.data(), static_cast<size_t>(length));
    Prepend(text, parts_);
    return text.starts_with('/') ? ToRoot() : Expected<void>();
  }

  // Whose it is matters where only we may own, and in directories where everybody makes files.
  [[nodiscard]] Expected<void> CheckOwner(const struct stat& status,
                                          const std::string& what) const {
    const bool free = strictness_ == Strictness::kNotEverybodys && !in_sticky_;
    if (free || IsRootOrSelf(status.st_uid, unmapped_) ||
        (!in_sticky_ && status.st_uid == unmapped_)) {
      return {};
    }
    return MakeError(EPERM, fmt::format("{}: {} belongs to user {}, who could put something else "
                                        "there; only root and user {} should own it",
                                        path_, what, status.st_uid, geteuid()));
  }

  // At what is at the place that has been come to.
  Expected<void> Look(const struct stat& status) {
    const std::string what = where_.empty() ? "/" : where_;
    if (auto owned = CheckOwner(status, what); !owned) {
      return owned;
    }
    const mode_t others = strictness_ == Strictness::kOnlyOurs ? S_IWGRP | S_IWOTH : S_IWOTH;
    const bool writable = (status.st_mode & others) != 0;
    const bool sticky = S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0;
    // Of a sticky directory the next part says whose it is.
    const bool on_the_way = parts_.size() > (strictness_ == Strictness::kOnlyOurs ? 1U : 0U);
    in_sticky_ = writable && sticky;
    if (writable && !(sticky && on_the_way)) {
      const std::string advice =
          sticky ? "choose a directory of its own"
                 : fmt::format("chmod {} {}, or choose another place",
                               strictness_ == Strictness::kOnlyOurs ? "go-w" : "o-w", what);
      return MakeError(
          EPERM, fmt::format("{}: {} is writable for others (mode {:04o}), who could put something "
                             "else there; {}",
                             path_, what, status.st_mode & 07777, advice));
    }
    return {};
  }

  const std::string& path_;
  const Strictness strictness_;
  const std::optional<uid_t> unmapped_;
  Parts parts_;
  UniqueFd at_;
  std::string where_;
  bool in_sticky_ = false;
  int links_ = 0;
};

}  // namespace

std::optional<uid_t> UnmappedUid() {
  const auto map = ReadFile("/proc/self/uid_map", kMaxUidMap);
  if (map) {
    uint64_t mapped = 0;
    for (const UidRange& range : ParseUidMap(*map)) {
      mapped += range.count;
    }
    if (mapped >= kAllUids) {
      return std::nullopt;
    }
  }
  const auto text = ReadFile("/proc/sys/kernel/overflowuid", kMaxNumber);
  uid_t uid = kUsualUnmapped;
  if (text) {
    std::from_chars(text->data(), text->data() + text->size(), uid);
  }
  return uid;
}

bool IsRootOrSelf(uid_t uid, std::optional<uid_t> unmapped) {
  return (uid == 0 || uid == geteuid()) && uid != unmapped;
}

bool IsRootOrSelf(uid_t uid) { return IsRootOrSelf(uid, UnmappedUid()); }

Expected<void> CheckOnlyOursToReplace(const std::string& path, std::optional<uid_t> unmapped) {
  return Walk(path, Strictness::kOnlyOurs, unmapped).Run();
}

Expected<void> CheckOnlyOursToReplace(const std::string& path) {
  return CheckOnlyOursToReplace(path, UnmappedUid());
}

Expected<void> CheckNotEverybodysToChange(const std::string& path) {
  auto walked = Walk(path, Strictness::kNotEverybodys, UnmappedUid()).Run();
  // What is not there, or no path (/dev/fd/3), is for whoever opens it to say.
  return !walked && walked.error().code == EPERM ? std::move(walked) : Expected<void>();
}

}  // namespace oakum
