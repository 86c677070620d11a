#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace oakum {

Expected<std::string> ReadAll(int fd, size_t limit) {
  constexpr size_t kFirst = 16384;
  constexpr size_t kLeast = 4096;
  std::string data;
  size_t used = 0;
  size_t room = kFirst;
  for (;;) {
    if (room - used < kLeast) {
      room *= 2;
    }
    ssize_t got = 0;
    // What is to be overwritten is not filled with zeros before.
    data.resize_and_overwrite(room, [&](char* into, size_t size) {
      got = read(fd, into + used, size - used);
      return got > 0 ? used + static_cast<size_t>(got) : used;
    });
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError("read");
    }
    if (got == 0) {
      return data;
    }
    used += static_cast<size_t>(got);
    if (used > limit) {
      return MakeError(EFBIG, fmt::format("longer than {} bytes", limit));
    }
  }
}

Expected<std::string> ReadFile(const std::string& path, size_t limit) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return ErrnoError(fmt::format("open {}", path));
  }
  auto data = ReadAll(fd.get(), limit);
  if (!data) {
    return std::unexpected(std::move(data.error()).Context(path));
  }
  return data;
}

Expected<void> WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t put = write(fd, data.data(), data.size());
    if (put < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError("write");
    }
    data.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

namespace {

Expected<void> FillTemporary(int fd, const std::string& path, std::string_view data,
                             Durability durability) {
  struct stat old = {};
  if (stat(path.c_str(), &old) == 0) {
    if (fchown(fd, old.st_uid, old.st_gid) != 0 && errno != EPERM) {
      return ErrnoError("fchown");
    }
    if (fchmod(fd, old.st_mode & 07777) != 0) {
      return ErrnoError("fchmod");
    }
  } else if (errno != ENOENT) {
    return ErrnoError("stat");
  }
  if (auto written = WriteAll(fd, data); !written) {
    return written;
  }
  if (durability == Durability::kPowerLoss && fsync(fd) != 0) {
    return ErrnoError("fsync");
  }
  return {};
}

}  // namespace

Expected<void> ReplaceFile(const std::string& path, std::string_view data, Durability durability) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  std::string temporary = fmt::format("{}/.oakum-XXXXXX", directory);
  const UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) {
    return ErrnoError(fmt::format("create a temporary file in {}", directory));
  }
  auto filled = FillTemporary(fd.get(), path, data, durability);
  if (filled && rename(temporary.c_str(), path.c_str()) != 0) {
    filled = ErrnoError("rename");
  }
  if (!filled) {
    unlink(temporary.c_str());
    return std::unexpected(std::move(filled.error()).Context(fmt::format("replace {}", path)));
  }
  if (durability == Durability::kProcess) {
    return {};
  }
  const UniqueFd directory_fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory_fd && fsync(directory_fd.get()) != 0 && errno != EINVAL) {
    return ErrnoError(fmt::format("fsync {}", directory));
  }
  return {};
}

}  // namespace oakum
