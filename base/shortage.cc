#include "base/shortage.h"

#include <algorithm>
#include <thread>

namespace oakum {

bool ShortageWait::Wait() {
  constexpr std::chrono::milliseconds kSlowest{20};
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
