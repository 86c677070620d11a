#include "hook/merge_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/fnv.h"
#include "hook/own_file.h"

namespace oakum::hook {

namespace {

constexpr char kSelf[] = "/proc/self/exe";

// For what chance does to a file, not for who could write to it.
std::string Hash(std::string_view text) { return fmt::format("{:016x}", Fnv1a(text)); }

// The key itself is compared, so that two of the same hash take each other's place and no more.
std::string FileName(std::string_view key) { return Hash(key); }

// What stands before the value, so that nothing that was cut off or never reached the disk looks
// whole. As long for any value.
std::string Head(std::string_view key, std::string_view value) {
  return fmt::format("oakum merge 1 {:016x} {:016x} {}\n{}\n", key.size(), value.size(),
                     Hash(value), key);
}

void AppendPlan(const oci::SeccompPlan& plan, std::string& text) {
  auto out = std::back_inserter(text);
  for (const oci::SyscallPlan& syscall : plan.syscalls) {
    fmt::format_to(out, "{}", syscall.name);
    for (const oci::FilterBranch& branch : syscall.branches) {
      fmt::format_to(out, " {}:{}", static_cast<int>(branch.action), branch.errno_value);
      for (const oci::ArgCondition& condition : branch.conditions) {
        fmt::format_to(out, ",{}:{}:{}:{}", condition.index, static_cast<int>(condition.compare),
                       condition.value, condition.value_two);
      }
    }
    text += '\n';
  }
  fmt::format_to(out, "others {}\n", plan.others_errno.value_or(-1));
}

// Calls `visit` with the name of each entry.
template <typename Visit>
void ForEachEntry(int directory_fd, Visit visit) {
  UniqueFd again(openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(fdopendir(again.get()), closedir);
  if (!entries) {
    return;
  }
  (void)again.Release();
  // NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own
  while (const dirent* entry = readdir(entries.get())) {
    if (entry->d_name[0] != '.') {
      visit(entry->d_name);
    }
  }
}

void MakeRoom(int directory_fd) {
  size_t count = 0;
  std::string oldest;
  timespec oldest_time = {};
  ForEachEntry(directory_fd, [&](const char* name) {
    struct stat status = {};
    if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
      return;
    }
    ++count;
    const bool older = std::pair(status.st_mtim.tv_sec, status.st_mtim.tv_nsec) <
                       std::pair(oldest_time.tv_sec, oldest_time.tv_nsec);
    if (oldest.empty() || older) {
      oldest = name;
      oldest_time = status.st_mtim;
    }
  });
  if (count >= MergeCache::kMaxEntries) {
    unlinkat(directory_fd, oldest.c_str(), 0);
  }
}

}  // namespace

std::string MergeKey(std::string_view section, const oci::SeccompPlan& plan,
                     const oci::ListenerConfig& listener) {
  struct stat self = {};
  const bool known = stat(kSelf, &self) == 0;
  const scmp_version* library = seccomp_version();
  std::string key = fmt::format("{}\nlibseccomp {}.{}.{}\n{}\n",
                                known ? FileIdentity(kSelf, self) : std::string(), library->major,
                                library->minor, library->micro, Escape(listener.path));
  for (const std::vector<std::string>* words : {&listener.flags, &listener.absent_archs}) {
    for (const std::string& word : *words) {
      fmt::format_to(std::back_inserter(key), "{} ", word);
    }
    key += '\n';
  }
  AppendPlan(plan, key);
  key += section;
  return key;
}

UniqueFd MergeCache::Open() const {
  UniqueFd directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status = {};
  if (!directory || fstat(directory.get(), &status) != 0 || !IsOnlyOurs(status)) {
    return {};
  }
  return directory;
}

std::optional<std::string> MergeCache::Find(std::string_view key) const {
  const UniqueFd directory = Open();
  if (!directory) {
    return std::nullopt;
  }
  auto text = ReadOwnFile(directory.get(), FileName(key), kMaxEntry);
  if (!text) {
    return std::nullopt;
  }
  const size_t head_size = Head(key, {}).size();
  if (text->size() < head_size ||
      !text->starts_with(Head(key, std::string_view(*text).substr(head_size)))) {
    return std::nullopt;
  }
  return text->substr(head_size);
}

void MergeCache::Store(std::string_view key, std::string_view value) const {
  const std::string text = Head(key, value).append(value);
  if (text.size() > kMaxEntry) {
    return;
  }
  if (mkdir(directory_.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    return;
  }
  const UniqueFd directory = Open();
  if (!directory) {
    return;
  }
  MakeRoom(directory.get());
  // Not being able to write it costs time and nothing else.
  (void)ReplaceFile(fmt::format("/proc/self/fd/{}/{}", directory.get(), FileName(key)), text,
                    Durability::kProcess);
}

}  // namespace oakum::hook
