#include "base/shortage.h"

#include <algorithm>
#include <cerrno>
#include <thread>

namespace oakum {

bool IsShortage(int error) { return error == EMFILE || error == ENFILE; }

bool ShortageWait::Again(int error) {
  constexpr std::chrono::milliseconds kSlowest{20};
  if (!IsShortage(error)) {
    return false;
  }
  const auto now = std::chrono::steady_clock::now();
  if (since_ == std::chrono::steady_clock::time_point()) {
    since_ = now;
  } else if (now - since_ > kLongest) {
    return false;
  }
  std::this_thread::sleep_for(next_);
  next_ = std::min(2 * next_, kSlowest);
  return true;
}

}  // namespace oakum
