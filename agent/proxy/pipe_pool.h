// Pipes for splice(2), lent out as long as bytes are under way.
#ifndef OAKUM_AGENT_PROXY_PIPE_POOL_H_
#define OAKUM_AGENT_PROXY_PIPE_POOL_H_

#include <cstddef>
#include <vector>

#include "base/unique_fd.h"

namespace oakum::agent {

struct Pipe {
  UniqueFd out;  // read end
  UniqueFd in;   // write end
  size_t bytes = 0;

  explicit operator bool() const { return static_cast<bool>(in); }
};

// Not thread-safe.
class PipePool {
 public:
  static constexpr int kPipeSize = 256 * 1024;  // below pipe-max-size (pipe(7))

  // An invalid pipe with errno: EMFILE, ENFILE. Smaller than kPipeSize where the user has too many
  // (pipe(7), pipe-user-pages-soft).
  [[nodiscard]] Pipe Take();
  // One that belongs to no pool, as small as pipe(2) makes it. An invalid pipe with errno: as
  // above.
  [[nodiscard]] static Pipe Make();
  // One that still has bytes is closed.
  void Give(Pipe pipe);

 private:
  static constexpr size_t kMaxSpare = 16;
  std::vector<Pipe> spare_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PIPE_POOL_H_
