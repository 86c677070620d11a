#include "cli/line_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

namespace oakum::cli {

namespace {

constexpr size_t kReadBytes = 65'536;

}  // namespace

Expected<LineReader> LineReader::Open(const std::string& path) {
  if (path == "-") {
    return LineReader(path, UniqueFd(), STDIN_FILENO);
  }
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return ErrnoError(fmt::format("open {}", path));
  }
  const int number = fd.get();
  return LineReader(path, std::move(fd), number);
}

Expected<void> LineReader::Read(const Take& take) {
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const ssize_t got = read(fd_, buffer.data(), buffer.size());
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoError(fmt::format("read {}", path_));
    }
    if (got == 0) {
      return {};
    }
    rest_.append(buffer.data(), static_cast<size_t>(got));
    size_t start = 0;
    for (size_t end = 0; (end = rest_.find('\n', start)) != std::string::npos; start = end + 1) {
      if (end > start) {
        take(std::string_view(rest_).substr(start, end - start));
      }
    }
    rest_.erase(0, start);
    if (rest_.size() > kMaxLine) {
      Finish(take);
    }
  }
}

void LineReader::Finish(const Take& take) {
  if (!rest_.empty()) {
    take(rest_);
    rest_.clear();
  }
}

Expected<void> LineReader::SkipToEnd() {
  if (lseek(fd_, 0, SEEK_END) < 0 && errno != ESPIPE) {
    return ErrnoError(fmt::format("seek {}", path_));
  }
  return {};
}

Expected<void> LineReader::FollowRename(const Take& take) {
  struct stat open_file = {};
  struct stat at_path = {};
  if (path_ == "-" || fstat(fd_, &open_file) != 0 || stat(path_.c_str(), &at_path) != 0) {
    return {};
  }
  const bool same = open_file.st_dev == at_path.st_dev && open_file.st_ino == at_path.st_ino;
  if (same) {
    if (S_ISREG(open_file.st_mode) && lseek(fd_, 0, SEEK_CUR) > open_file.st_size) {
      rest_.clear();
      if (lseek(fd_, 0, SEEK_SET) < 0) {
        return ErrnoError(fmt::format("seek {}", path_));
      }
    }
    return {};
  }
  // What the writer put into the old file after our last look.
  if (auto read = Read(take); !read) {
    return read;
  }
  Finish(take);
  auto fresh = Open(path_);
  if (!fresh) {
    return std::unexpected(std::move(fresh.error()));
  }
  *this = std::move(*fresh);
  return {};
}

}  // namespace oakum::cli
