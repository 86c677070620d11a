#include "hook/own_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/unique_fd.h"

namespace oakum::hook {

bool IsOnlyOurs(const struct stat& status) {
  return status.st_uid == geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

std::optional<std::string> ReadOwnFile(int dir_fd, const std::string& path, size_t limit) {
  const UniqueFd file(openat(dir_fd, path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status = {};
  if (!file || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || !IsOnlyOurs(status)) {
    return std::nullopt;
  }
  auto text = ReadAll(file.get(), limit);
  if (!text) {
    return std::nullopt;
  }
  return *std::move(text);
}

std::string FileIdentity(const std::string& path, const struct stat& status) {
  return fmt::format("{} {} {} {} {}.{:09} {}.{:09}", Escape(path), status.st_dev, status.st_ino,
                     status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                     status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

}  // namespace oakum::hook
