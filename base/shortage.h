// Waiting for room for another descriptor.
#ifndef OAKUM_BASE_SHORTAGE_H_
#define OAKUM_BASE_SHORTAGE_H_

#include <chrono>

namespace oakum {

// Whether an errno value says that this process (RLIMIT_NOFILE, getrlimit(2)) or the machine has as
// many descriptors as it may: nothing that a container has done in its call.
[[nodiscard]] bool IsShortage(int error);

// For one thing that is tried until there is room, for a bounded time: others give theirs back.
class ShortageWait {
 public:
  static constexpr std::chrono::seconds kLongest{10};

  // True after a moment's wait when `error` says so and it is worth another try; else at once.
  [[nodiscard]] bool Again(int error);

 private:
  std::chrono::milliseconds next_{1};
  std::chrono::steady_clock::time_point since_;  // of the first wait
};

}  // namespace oakum

#endif  // OAKUM_BASE_SHORTAGE_H_
