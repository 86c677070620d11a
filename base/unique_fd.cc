#include "base/unique_fd.h"

#include <unistd.h>

#include <cerrno>

namespace oakum {

void UniqueFd::Reset(int fd) {
  const int old = std::exchange(fd_, fd);
  if (old >= 0) {
    const int saved_errno = errno;
    close(old);
    errno = saved_errno;
  }
}

}  // namespace oakum
