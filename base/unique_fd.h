// A file descriptor with one owner.
#ifndef OAKUM_BASE_UNIQUE_FD_H_
#define OAKUM_BASE_UNIQUE_FD_H_

#include <utility>

namespace oakum {

// Owns a descriptor from birth to close(2). Move-only; -1 means "none". close(2) is never retried:
// on Linux the descriptor is gone whatever it returns (close(2), "Dealing with error returns").
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset(std::exchange(other.fd_, -1));
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  // Gives up ownership; the caller closes.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }
  // Closes what is held (errno is preserved) and takes `fd`.
  void Reset(int fd = -1) {
    if (const int old = std::exchange(fd_, fd); old >= 0) {
      Close(old);
    }
  }

 private:
  static void Close(int fd);

  int fd_ = -1;
};

}  // namespace oakum

#endif  // OAKUM_BASE_UNIQUE_FD_H_
