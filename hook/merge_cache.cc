#include "hook/merge_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/file.h"
#include "hook/own_file.h"

namespace oakum::hook {

namespace {

constexpr char kSelf[] = "/proc/self/exe";

// For what chance does to a file, not for who could write to it. Eight bytes at a time: each
// changes what becomes of all that come later, so that one place that is different never goes
// unseen.
std::string Hash(std::string_view text) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;  // odd: multiplying loses nothing
  uint64_t hash = text.size();
  while (!text.empty()) {
    uint64_t word = 0;
    const size_t size = std::min(text.size(), sizeof word);
    std::memcpy(&word, text.data(), size);
    text.remove_prefix(size);
    hash = (std::rotl(hash, 23) ^ word) * kFactor;
  }
  return fmt::format("{:016x}", hash ^ (hash >> 32));
}

// The key itself is compared, so that two of the same hash take each other's place and no more.
std::string FileName(std::string_view key) { return Hash(key); }

// What stands before the key, a line feed and the value, so that nothing that was cut off or never
// reached the disk looks whole. As long for any of them.
std::string HeadLine(std::string_view key, std::string_view value) {
  return fmt::format("oakum merge 1 {:016x} {:016x} {}\n", key.size(), value.size(), Hash(value));
}

template <typename Number>
void AppendBytes(Number number, std::string& text) {
  text.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void AppendString(std::string_view string, std::string& text) {
  AppendBytes(string.size(), text);
  text += string;
}

// As bytes: a key is compared with those of this very program.
void AppendPlan(const oci::SeccompPlan& plan, std::string& text) {
  AppendBytes(plan.syscalls.size(), text);
  for (const oci::SyscallPlan& syscall : plan.syscalls) {
    AppendString(syscall.name, text);
    AppendBytes(syscall.branches.size(), text);
    for (const oci::FilterBranch& branch : syscall.branches) {
      AppendBytes(branch.action, text);
      AppendBytes(branch.errno_value, text);
      AppendBytes(branch.conditions.size(), text);
      for (const oci::ArgCondition& condition : branch.conditions) {
        AppendBytes(condition.index, text);
        AppendBytes(condition.compare, text);
        AppendBytes(condition.value, text);
        AppendBytes(condition.value_two, text);
      }
    }
  }
  AppendBytes(plan.others_errno.value_or(-1), text);
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
  std::string key;
  constexpr size_t kUsualPlan = 8192;
  key.reserve(section.size() + kUsualPlan);
  AppendString(known ? FileIdentity(kSelf, self) : std::string(), key);
  AppendBytes(library->major, key);
  AppendBytes(library->minor, key);
  AppendBytes(library->micro, key);
  AppendString(listener.path, key);
  for (const std::vector<std::string>* words : {&listener.flags, &listener.absent_archs}) {
    AppendBytes(words->size(), key);
    for (const std::string& word : *words) {
      AppendString(word, key);
    }
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
  const size_t line = HeadLine(key, {}).size();
  const size_t head = line + key.size() + 1;
  const std::string_view whole = *text;
  if (whole.size() < head || whole.substr(line, key.size()) != key || whole[head - 1] != '\n' ||
      !whole.starts_with(HeadLine(key, whole.substr(head)))) {
    return std::nullopt;
  }
  text->erase(0, head);
  return text;
}

void MergeCache::Store(std::string_view key, std::string_view value) const {
  std::string text = HeadLine(key, value);
  text.reserve(text.size() + key.size() + 1 + value.size());
  text.append(key).append(1, '\n').append(value);
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
