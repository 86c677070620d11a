// Memory that is never there.
#ifndef OAKUM_TEST_UNIT_AGENT_ABSENT_MEMORY_H_
#define OAKUM_TEST_UNIT_AGENT_ABSENT_MEMORY_H_

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/unique_fd.h"

namespace oakum::agent {

// Whoever reads it waits (userfaultfd(2)), the kernel as well as the agent. As long as the program
// lives.
class AbsentMemory {
 public:
  AbsentMemory()
      : fd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))),
        pages_(static_cast<char*>(
            mmap(nullptr, 2 * kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    memset(pages_, 1, kSize);
    uffdio_api api = {};
    api.api = UFFD_API;
    uffdio_register range = {};
    range.range = {reinterpret_cast<uintptr_t>(get()), kSize};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    ok_ = fd_.valid() && ioctl(fd_.get(), UFFDIO_API, &api) == 0 &&
          ioctl(fd_.get(), UFFDIO_REGISTER, &range) == 0;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] const void* get() const { return pages_ + kSize; }
  // Its descriptor, with which whoever holds it may Fill() it.
  [[nodiscard]] int fd() const { return fd_.get(); }
  // There as far as its first `size` bytes, all 1.
  [[nodiscard]] const void* after(size_t size) const { return pages_ + kSize - size; }
  // What another process's memory has at `where` (its get()) from now on: `bytes`, and zeros.
  [[nodiscard]] static bool Fill(int fd, uint64_t where, std::string_view bytes) {
    alignas(kSize) static char page[kSize];
    memset(page, 0, sizeof page);
    memcpy(page, bytes.data(), bytes.size());
    uffdio_copy copy = {};
    copy.dst = where;
    copy.src = reinterpret_cast<uintptr_t>(page);
    copy.len = sizeof page;
    return ioctl(fd, UFFDIO_COPY, &copy) == 0;
  }

 private:
  static constexpr size_t kSize = 4096;
  UniqueFd fd_;
  char* pages_;
  bool ok_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_ABSENT_MEMORY_H_
