#include "agent/proxy/pipe_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace oakum::agent {

Pipe PipePool::Take() {
  if (!spare_.empty()) {
    Pipe pipe = std::move(spare_.back());
    spare_.pop_back();
    return pipe;
  }
  Pipe pipe = Make();
  if (pipe) {
    (void)fcntl(pipe.in.get(), F_SETPIPE_SZ, kPipeSize);
  }
  return pipe;
}

Pipe PipePool::Make() {
  int ends[2] = {-1, -1};
  Pipe pipe;
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
    pipe.out.Reset(ends[0]);
    pipe.in.Reset(ends[1]);
  }
  return pipe;
}

void PipePool::Give(Pipe pipe) {
  if (pipe && pipe.bytes == 0 && spare_.size() < kMaxSpare) {
    spare_.push_back(std::move(pipe));
  }
}

}  // namespace oakum::agent
