// The programs that are measured under a guard and without one.
#ifndef OAKUM_BENCH_PROGRAMS_H_
#define OAKUM_BENCH_PROGRAMS_H_

#include <cstddef>
#include <span>

namespace oakum::bench {

// Of one call, in nanoseconds.
struct Figures {
  double median = 0;
  double p99 = 0;
  double mean = 0;
};

// A row of the benchmark. `run` makes about `calls` calls of the measured kind, writes its Figures
// to `output_fd` and returns 0; else they mean nothing.
struct Program {
  const char* title;
  int (*run)(int output_fd, size_t calls);
  // How many calls are one notification: 0 for calls that the guard has no part in.
  size_t calls_of_one;

  // The least that `calls` calls must have led to.
  [[nodiscard]] size_t Notifications(size_t calls) const {
    return calls_of_one == 0 ? 0 : calls / calls_of_one;
  }
};

[[nodiscard]] std::span<const Program> Programs();

}  // namespace oakum::bench

#endif  // OAKUM_BENCH_PROGRAMS_H_
