#include "agent/events/event_output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>
#include <vector>

namespace oakum::agent {

namespace {

// What one Write asks of the other side before it returns to its caller.
constexpr size_t kMaxWrite = 1U << 20;

bool Writable(int fd, int timeout_ms) {
  struct pollfd entry = {.fd = fd, .events = POLLOUT, .revents = 0};
  return poll(&entry, 1, timeout_ms) > 0;
}

// Whether the regular file at `path` ends with something other than a newline.
bool EndsInsideLine(const std::string& path, off_t size) {
  if (size == 0) {
    return false;
  }
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char last = '\n';
  return fd && pread(fd.get(), &last, 1, size - 1) == 1 && last != '\n';
}

}  // namespace

Expected<EventOutput> EventOutput::Create(const std::string& path) {
  EventOutput output(path);
  output.is_stdout_ = path == "-";
  // ENXIO: a FIFO that nobody reads yet (fifo(7)). A disk that is full keeps no agent from its
  // work.
  if (auto opened = output.Open(); !opened && opened.error().code != ENXIO &&
                                   opened.error().code != ENOSPC && opened.error().code != EDQUOT) {
    return std::unexpected(std::move(opened.error()));
  }
  return output;
}

Expected<void> EventOutput::Open() {
  if (is_stdout_) {
    struct stat status = {};
    if (fstat(1, &status) != 0) {
      return ErrnoError("events: the standard output");
    }
    // O_NONBLOCK belongs to the open file description, which the parent and its other children
    // share: it stays as it is, and writes are kept small enough not to block.
    may_block_ = !S_ISREG(status.st_mode);
    return {};
  }
  UniqueFd fd(
      open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640));
  if (!fd) {
    return ErrnoError(fmt::format("events: open {}", path_));
  }
  struct stat fresh = {};
  if (fstat(fd.get(), &fresh) != 0) {
    return ErrnoError(fmt::format("events: {}", path_));
  }
  struct stat old = {};
  const bool same = fd_ && fstat(fd_.get(), &old) == 0 && old.st_dev == fresh.st_dev &&
                    old.st_ino == fresh.st_ino;
  if (!same) {
    StartLineAnew();
    is_file_ = S_ISREG(fresh.st_mode);
    is_fifo_ = S_ISFIFO(fresh.st_mode);
    start_line_ = is_file_ && EndsInsideLine(path_, fresh.st_size);
  }
  fd_ = std::move(fd);
  return {};
}

void EventOutput::StartLineAnew() {
  const size_t line = sent_ == 0 ? std::string::npos : pending_.rfind('\n', sent_ - 1);
  const size_t start = line == std::string::npos ? 0 : line + 1;
  const auto part = static_cast<off_t>(sent_ - start);
  pending_.erase(0, start);
  sent_ = 0;
  struct stat status = {};
  // Only where nobody has written after it: lseek(2) tells where the last write has ended.
  if (part != 0 && is_file_ && fd_ && fstat(fd_.get(), &status) == 0 && status.st_size >= part &&
      lseek(fd_.get(), 0, SEEK_CUR) == status.st_size) {
    (void)!ftruncate(fd_.get(), status.st_size - part);
  }
}

void EventOutput::Forget() {
  size_t remembered = 0;
  if (is_fifo_ && fd_) {
    remembered = static_cast<size_t>(std::max(0, fcntl(fd_.get(), F_GETPIPE_SZ)));
  }
  if (sent_ <= remembered) {
    return;
  }
  const size_t line = pending_.rfind('\n', sent_ - remembered - 1);
  const size_t start = line == std::string::npos ? 0 : line + 1;
  pending_.erase(0, start);
  sent_ -= start;
}

void EventOutput::TakeBackUnread() {
  if (!is_fifo_ || !fd_) {
    return;
  }
  struct pollfd entry = {.fd = fd_.get(), .events = 0, .revents = 0};
  if (poll(&entry, 1, 0) != 1 || (entry.revents & POLLERR) == 0) {
    return;  // somebody reads it
  }
  // fifo(7): a pipe and what is in it last as long as somebody has it open.
  const UniqueFd reader(
      open(fmt::format("/proc/self/fd/{}", fd_.get()).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::vector<char> unread(static_cast<size_t>(std::max(1, fcntl(fd_.get(), F_GETPIPE_SZ))));
  ssize_t got = 0;
  while (reader && (got = read(reader.get(), unread.data(), unread.size())) > 0) {
    sent_ -= std::min(sent_, static_cast<size_t>(got));
  }
  fd_.Reset();
  StartLineAnew();
}

Expected<void> EventOutput::CheckFile() {
  struct stat status = {};
  if (!is_file_ || fstat(fd_.get(), &status) != 0) {
    return {};
  }
  if (status.st_nlink == 0) {
    return Open();
  }
  if (sent_ != 0 && lseek(fd_.get(), 0, SEEK_CUR) > status.st_size) {
    StartLineAnew();
  }
  return {};
}

Expected<void> EventOutput::Reopen() {
  if (is_stdout_) {
    return {};
  }
  return Open();
}

Expected<void> EventOutput::Write() {
  auto written = WriteSome();
  // A reader may be slow for ever: what it has taken goes all the same.
  if (pending() == 0 || sent_ > kMaxWrite) {
    Forget();
  }
  return written;
}

Expected<void> EventOutput::WriteSome() {
  if (!is_stdout_ && !fd_) {
    if (auto opened = Open(); !opened) {
      return opened;
    }
  }
  if (auto checked = CheckFile(); !checked) {
    return checked;
  }
  if (start_line_ && pending() != 0) {
    pending_.insert(0, 1, '\n');
    start_line_ = false;
  }
  size_t budget = kMaxWrite;
  while (pending() != 0) {
    // POLLOUT on a pipe promises room for PIPE_BUF bytes (pipe(7)).
    const size_t most = may_block_ ? PIPE_BUF : budget;
    if (budget == 0 || (may_block_ && !Writable(fd(), 0))) {
      return MakeError(EAGAIN, fmt::format("events: {} takes no more now", path_));
    }
    const ssize_t put = write(fd(), pending_.data() + sent_, std::min(pending(), most));
    if (put < 0) {
      if (errno == EINTR) {
        continue;
      }
      auto error = ErrnoError(fmt::format("events: write {}", path_));
      if (error.error().code == EPIPE && !is_stdout_) {
        TakeBackUnread();  // the next reader starts with a whole line
      }
      return error;
    }
    sent_ += static_cast<size_t>(put);
    budget -= std::min(budget, static_cast<size_t>(put));
  }
  return {};
}

void EventOutput::WaitWritable(int timeout_ms) const {
  if (fd() >= 0) {
    Writable(fd(), timeout_ms);
  }
}

size_t EventOutput::PendingLines() const {
  return static_cast<size_t>(
      std::count(pending_.begin() + static_cast<ptrdiff_t>(sent_), pending_.end(), '\n'));
}

}  // namespace oakum::agent
