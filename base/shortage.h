// Waiting for room for another descriptor.
#ifndef OAKUM_BASE_SHORTAGE_H_
#define OAKUM_BASE_SHORTAGE_H_

#include <cerrno>
#include <chrono>

namespace oakum {

// Whether an errno value says that this process (RLIMIT_NOFILE, getrlimit(2)) or the machine has as
// many descriptors as it may: nothing that a container has done in its call.
[[nodiscard]] inline bool IsShortage(int error) { return error == EMFILE || error == ENFILE; }

// For one thing that is tried until there is room, for a bounded time: others give theirs back.
class ShortageWait {
 public:
  static constexpr std::chrono::seconds kLongest{10};

  // True after a moment's wait when `error` says so and it is worth another try; else at once.
  [[nodiscard]] bool Again(int error) { return IsShortage(error) && Wait(); }

 private:
  [[nodiscard]] bool Wait();

  std::chrono::milliseconds next_{1};
  std::chrono::steady_clock::time_point since_;  // of the first wait
};

}  // namespace oakum

#endif  // OAKUM_BASE_SHORTAGE_H_
