// Many small pieces of a thread's memory, copied with one system call.
#ifndef OAKUM_AGENT_CALLER_GATHER_H_
#define OAKUM_AGENT_CALLER_GATHER_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace oakum::agent {

// The kernel takes its time for each place that process_vm_readv(2) is given, so that pieces with
// nothing but touched pages between them are copied as one. Where a page cannot be read, pieces
// that could be may be missing as well: who needs to know which reads them one by one.
class Gather {
 public:
  // `most`: bytes that are copied at most, in between included.
  explicit Gather(size_t most) : most_(most) {}

  // Names another piece. False, and nothing done, where that would be too much.
  [[nodiscard]] bool Add(uint64_t address, size_t size);
  // Copies all of them, once. Returns how many could be, from the first on. Whoever calls must
  // check afterwards that the notification is still valid: `tid` may have been reused.
  [[nodiscard]] size_t Read(pid_t tid);
  // The copy of a piece that could be.
  [[nodiscard]] char* at(size_t piece) const;

 private:
  struct Window {
    uint64_t start;
    uint64_t end;
    size_t offset = 0;  // of its copy
  };
  struct Piece {
    size_t window;
    uint64_t address;
    size_t size;
  };

  const size_t most_;
  size_t bytes_ = 0;
  std::vector<Window> windows_;
  std::vector<Piece> pieces_;
  std::unique_ptr<char[]> copy_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_GATHER_H_
