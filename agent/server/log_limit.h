// Keeps what others can cause without end from filling the diagnostics.
#ifndef OAKUM_AGENT_SERVER_LOG_LIMIT_H_
#define OAKUM_AGENT_SERVER_LOG_LIMIT_H_

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace oakum::agent {

// Lets messages of one kind through: kBurst at once, then kPerSecond. What was left out is told
// with the next one. Not thread-safe.
class LogLimit {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr double kBurst = 20;
  static constexpr double kPerSecond = 1;

  // What is to be added to the message, mostly nothing; no value when it is not to be logged.
  [[nodiscard]] std::optional<std::string> Ask(Clock::time_point now) {
    const std::chrono::duration<double> passed = now - asked_;
    asked_ = now;
    left_ = std::min(kBurst, left_ + passed.count() * kPerSecond);
    if (left_ < 1) {
      ++silent_;
      return std::nullopt;
    }
    left_ -= 1;
    const uint64_t silent = std::exchange(silent_, 0);
    return silent == 0 ? std::string()
                       : fmt::format(" ({} more before it were not logged)", silent);
  }

 private:
  Clock::time_point asked_;
  double left_ = kBurst;
  uint64_t silent_ = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_LOG_LIMIT_H_
